import ssl
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade

REFUSED = "refused"
RESET = "reset"
TIMEOUT = "time-out"
UNREACHABLE = "unreachable"
WRONG_ANSWER = "wrong answer"
ABANDONED = "abandoned"

# What a connection can raise; anything else is a defect of ours and must not pass for a failed request.
TRANSPORT_ERRORS = (OSError, HttpParserError, HttpParserUpgrade)

DETAIL_LENGTH = 200


class Failure(NamedTuple):
    """Why a request was not served: the kind it is counted under, and what was seen."""

    kind: str
    detail: str


def of_status(status: int, body: bytes, location: str = "") -> Failure:
    if location and 300 <= status < 400:
        return Failure(f"status {status}", f"redirects to {location[:DETAIL_LENGTH]}; it was not followed")
    return Failure(f"status {status}", excerpt(body))


def of_error(error: Exception) -> Failure:
    """The failure that one of TRANSPORT_ERRORS stands for."""
    detail = " ".join(str(error).split()) or type(error).__name__
    return Failure(_kind(error), detail[:DETAIL_LENGTH])


def _kind(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return REFUSED
    if isinstance(error, TimeoutError):
        return TIMEOUT
    if isinstance(error, ConnectionError | ssl.SSLEOFError):
        return RESET
    if isinstance(error, HttpParserError | HttpParserUpgrade):
        return WRONG_ANSWER
    return UNREACHABLE


def excerpt(body: bytes) -> str:
    """The start of an answer on one line."""
    return " ".join(body[:DETAIL_LENGTH].decode("utf-8", "replace").split())
