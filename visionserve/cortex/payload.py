from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import orjson
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import Scope

# 64 photographs of 750 KB in base64.
MAX_BODY_BYTES = 64 << 20
# Of a body that does not tell its length beforehand.
MAX_CHUNKED_BYTES = 32 << 20
# Of all bodies that are being read or worked on in one process.
MAX_BUFFERED_BYTES = 128 << 20
# The files and fields of a form; a predictor's max_images says how many images there may be.
MAX_PARTS = 256
# What JSON may take as Python objects beyond its text, by the estimate below.
MAX_JSON_BYTES = 48 << 20
# Smaller texts cannot come near it: what grows most, "{},", is 24 times as large as objects.
SMALL_JSON_BYTES = 1 << 20

FORM = "application/x-www-form-urlencoded"

Receive = Callable[[], Awaitable[Any]]


class Bodies:
    """The bytes of all bodies that a process holds, and the limit of each."""

    def __init__(self) -> None:
        self._held = 0

    def body(self, scope: Scope, receive: Receive) -> "Body":
        told = any(name == b"content-length" for name, _ in scope["headers"])
        return Body(self, receive, MAX_BODY_BYTES if told else MAX_CHUNKED_BYTES)

    def held(self) -> int:
        return self._held

    def hold(self, size: int) -> None:
        """May be negative."""
        self._held += size


class Body:
    """An ASGI `receive` that stops a body that grows too large. `release` it when the request is answered."""

    def __init__(self, bodies: Bodies, receive: Receive, limit: int) -> None:
        self._bodies = bodies
        self._receive = receive
        self._limit = limit
        self._size = 0

    async def __call__(self) -> Any:
        message = await self._receive()
        if part := message.get("body"):
            self._size += len(part)
            self._bodies.hold(len(part))
            if self._size > self._limit:
                raise _too_large(self._limit)
            if self._bodies.held() > MAX_BUFFERED_BYTES:
                sentence = (
                    f"The bodies of all requests are larger than {MAX_BUFFERED_BYTES >> 20} MiB: try again later."
                )
                raise HTTPException(503, sentence, {"retry-after": "1"})
        return message

    def release(self) -> None:
        self._bodies.hold(-self._size)
        self._size = 0


def check_length(request: Request) -> None:
    """Raises HTTPException 413 for a body that says that it is too large, before any of it is read."""
    if int(request.headers.get("content-length", 0)) > MAX_BODY_BYTES:
        raise _too_large(MAX_BODY_BYTES)


async def read_body(request: Request) -> bytes | FormData:
    """The form of a form request, the raw body of any other. Raises HTTPException 400 for a form that is none."""
    content_type = media_type(request)
    if content_type == "multipart/form-data":
        return await _form(_InMemory(request.headers, request.stream(), max_files=MAX_PARTS, max_fields=MAX_PARTS))
    body = await request.body()
    if content_type == FORM and not _is_json(body) and not _is_binary(body):
        return await _form(FormParser(request.headers, _whole(body), max_fields=MAX_PARTS, max_part_size=len(body)))
    return body


def parse(request: Request, body: bytes | FormData) -> Any:
    """The payload that Cortex hands to a predictor.

    Raises HTTPException: 400 for JSON that does not parse, 413 for JSON of too many values.
    """
    if not isinstance(body, bytes):
        return body
    content_type = media_type(request)
    if content_type == "application/json" or (content_type == FORM and _is_json(body)):
        if len(body) > SMALL_JSON_BYTES and _json_bytes(body) > MAX_JSON_BYTES:
            raise HTTPException(413, "The JSON has too many values: send fewer, or numbers as bytes.")
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise HTTPException(400, f"The body is not JSON: {error}.") from error
    return body


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def _is_json(body: bytes) -> bool:
    """Of a body that came as a form, as curl -d sends it: no form begins with a bracket."""
    return body.lstrip()[:1] in (b"{", b"[")


def _is_binary(body: bytes) -> bool:
    """Of a body that came as a form, as curl --data-binary sends a picture: a form is printable ASCII."""
    return any(byte < 0x20 or byte > 0x7E for byte in body[:16].rstrip(b"\r\n"))


class _InMemory(MultiPartParser):
    # The body has a limit of its own; a file on disk would be written and read again through other threads.
    spool_max_size = 0


async def _form(parser: MultiPartParser | FormParser) -> FormData:
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"The form cannot be read: {error.message.rstrip('.')}.") from error


async def _whole(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def _json_bytes(body: bytes) -> int:
    """What its values take at least: 64 bytes one of a list or an object, 64 more an object with an entry or a list."""
    return 64 * (body.count(b",") + body.count(b"[") + 2 * body.count(b":"))


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"The body is larger than {limit >> 20} MiB: send fewer images.")
