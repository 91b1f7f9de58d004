import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from visionserve.errors import VisionserveError
from visionserve.inference.unanswered import CLIENT_GONE

RETRY_LATER = {"retry-after": "1"}

log = logging.getLogger("visionserve")


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status, headers, "application/json")


async def _on_our_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, VisionserveError)
    if error.status >= 500:
        log.warning("%s", error)
    return json_response({"error": str(error)}, error.status, RETRY_LATER if error.status == 503 else None)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    sentence = error.detail
    if sentence == HTTPStatus.NOT_FOUND.phrase:
        sentence = f"There is nothing at {request.url.path}: /docs shows what there is."
    if sentence == HTTPStatus.METHOD_NOT_ALLOWED.phrase:
        allowed = headers.get("Allow", "another method")
        sentence = f"{request.method} is not for {request.url.path}: use {allowed}; /docs shows how."
    return json_response({"error": sentence}, error.status_code, headers)


async def _on_invalid_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return json_response({"error": f"{first['loc'][-1]} is {first['input']!r}: say true or false."}, 400)


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _on_error(request: Request, error: Exception) -> Response:
    # The server logs the trace.
    return json_response({"error": "internal server error"}, 500)


# What each exception is answered with: {"error": one sentence}.
REFUSALS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    VisionserveError: _on_our_error,
    HTTPException: _on_http_error,
    RequestValidationError: _on_invalid_parameter,
    ClientDisconnect: _on_disconnect,
    Exception: _on_error,
}
