import re

from visionserve.vision.errors import ImageError

try:
    from pybase64 import b64decode
except ImportError:  # Cortex's own image does not have it
    from base64 import b64decode  # type: ignore[assignment]

_DATA_URL = re.compile(r"\s*data:[^,]{0,200};base64,", re.IGNORECASE)


def from_base64(text: str) -> bytes:
    """The bytes that `text` encodes, with or without a data URL's head. ImageError, a predicate: not base64."""
    start = _DATA_URL.match(text[:256])
    if start:
        text = text[start.end() :]
    # The base64 command breaks its lines; to drop other whitespace too takes several times as long.
    for prepare in (str, _joined_lines, _without_whitespace):
        try:
            return b64decode(prepare(text), validate=True)
        except ValueError:
            continue
    raise ImageError("is not valid base64")


def _joined_lines(text: str) -> bytes:
    return text.encode("ascii").replace(b"\n", b"")


def _without_whitespace(text: str) -> str:
    return "".join(text.split())
