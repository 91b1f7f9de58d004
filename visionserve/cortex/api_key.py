"""The optional keys of an API: known by their hashes alone, checked in constant time."""

import base64
import binascii
import hmac
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from visionserve.cortex.responses import error_response
from visionserve.errors import UsageError

VARIABLE = "CORTEX_API_KEY"
# Kubernetes' and load balancers' probes carry no key.
OPEN_PATHS = ("/healthz",)
CARRIERS = (b"authorization", b"x-api-key")
SHORTEST = 16
_KEY = re.compile(rf"[!-~]{{{SHORTEST},512}}")
_LARGEST_FILE = 1 << 16


def read_keys(file: Path | None) -> list[str]:
    """The keys of a file, one a line but empty lines and those with # in front; without a file, the environment's.

    None there gives an empty list. Raises UsageError, which never repeats a key.
    """
    where, text = f"the environment variable {VARIABLE}", os.environ.get(VARIABLE, "")
    if file is not None:
        where = str(file)
        try:
            with file.open("rb") as opened:
                content = opened.read(_LARGEST_FILE + 1)
        except OSError as error:
            raise UsageError(f"--api-key-file {file} cannot be read: {error.strerror}.") from error
        if len(content) > _LARGEST_FILE:
            raise UsageError(f"--api-key-file {file} has over {_LARGEST_FILE >> 10} KiB: name a file of keys alone.")
        text = content.decode("ascii", errors="replace")
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if file is not None and not keys:
        raise UsageError(f"{where} holds no key: write one on each line, such as openssl rand -hex 32 makes.")
    for number, key in enumerate(keys, 1):
        if not _KEY.fullmatch(key):
            raise UsageError(
                f"Key {number} of {where} is not {SHORTEST} to 512 printable ASCII characters without spaces: make one "
                "with openssl rand -hex 32."
            )
    return keys


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def digests(keys: Iterable[str]) -> list[str]:
    """What is kept of keys: their SHA-256 in hexadecimal. Keys are long and random, so that a salt adds nothing."""
    return sorted(sha256(key.encode()).hexdigest() for key in keys)


def authorization(keys: Sequence[str]) -> dict[str, str]:
    """The header that a request to an API with one of these keys carries."""
    return {"authorization": f"Bearer {keys[0]}"} if keys else {}


class RequireKey:
    """Around an ASGI application: 401 without one of the keys, but for OPEN_PATHS.

    A key comes as `Authorization: Bearer KEY`, as `x-api-key: KEY`, or as the password of HTTP's Basic authentication
    (RFC 7617), which is what a browser asks its user for. The application does not get to see it.
    """

    def __init__(
        self, application: ASGIApp, digests: Sequence[str], refused: Callable[[], None] = lambda: None
    ) -> None:
        """`digests`: of the keys, as the function of that name gives them; `refused` is called with each 401."""
        self._application = application
        self._refused = refused
        self._digests = [bytes.fromhex(digest) for digest in digests]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not (scope["path"] in OPEN_PATHS and scope["method"] in ("GET", "HEAD")):
            if not any(map(self._is_known, _presented(scope))):
                refusal = error_response(
                    "This API needs a key: send it as the header Authorization: Bearer KEY, or x-api-key: KEY.",
                    401,
                    {"www-authenticate": 'Bearer realm="cortex"'},
                )
                # Browsers understand the first challenge of a header alone, and Basic is the one that they can ask for.
                refusal.headers.append("www-authenticate", 'Basic realm="cortex"')
                await refusal(scope, receive, send)
                self._refused()
                return
            scope = {**scope, "headers": [header for header in scope["headers"] if header[0] not in CARRIERS]}
        await self._application(scope, receive, send)

    def _is_known(self, key: bytes) -> bool:
        presented, fits = sha256(key).digest(), False
        # All are compared, so that the time tells nothing of which one fits.
        for known in self._digests:
            fits |= hmac.compare_digest(presented, known)
        return fits


def _presented(scope: Scope) -> list[bytes]:
    found = []
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            found.append(value)
        elif name == b"authorization":
            scheme, _, credentials = value.partition(b" ")
            if scheme.lower() == b"bearer":
                found.append(credentials.strip())
            elif scheme.lower() == b"basic":
                found.append(_password(credentials))
    return found


def _password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
