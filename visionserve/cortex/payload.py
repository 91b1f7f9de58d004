from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request

MAX_BODY_BYTES = 256 << 20

Receive = Callable[[], Awaitable[Any]]


def limited(receive: Receive, limit: int = MAX_BODY_BYTES) -> Receive:
    """An ASGI `receive` that answers 413 once a body grows past `limit` bytes."""
    got = 0

    async def counted() -> Any:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > limit:
            raise HTTPException(413, f"The body is larger than {limit >> 20} MiB.")
        return message

    return counted


async def read_body(request: Request) -> bytes | FormData:
    """The form of a form request, the raw body of any other."""
    content_type = media_type(request)
    if content_type == "multipart/form-data":
        return await request.form()
    body = await request.body()
    # curl -d sends JSON under the form's type; no form begins with a bracket.
    if content_type == "application/x-www-form-urlencoded" and body.lstrip()[:1] not in (b"{", b"["):
        return await request.form()
    return body


def parse(request: Request, body: bytes | FormData) -> Any:
    """The payload that Cortex hands to a predictor. Raises HTTPException 400 for JSON that does not parse."""
    if not isinstance(body, bytes):
        return body
    if media_type(request) in ("application/json", "application/x-www-form-urlencoded"):
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise HTTPException(400, f"The body is not JSON: {error}.") from error
    return body


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()
