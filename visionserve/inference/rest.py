"""TensorFlow Serving's REST protocol (https://www.tensorflow.org/tfx/serving/api_rest)."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from visionserve.errors import InvalidInputError, VisionserveError
from visionserve.inference import metrics
from visionserve.inference.descriptions import metadata_response, signature_definitions, status_response
from visionserve.inference.predict_json import predict_response, read_predict_request
from visionserve.inference.repository import Repository
from visionserve.inference.tensors import MAX_TENSOR_BYTES
from visionserve.inference.unanswered import CLIENT_GONE

# A name, and a version or a label of it; every path is matched without regard to case, as TensorFlow Serving does.
_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]{1,19})|/labels/(?P<label>[^/:]+))?"
_CALL = re.compile(_MODEL + r":(?P<method>predict|classify|regress)", re.IGNORECASE)
_DESCRIPTION = re.compile(_MODEL + r"(?P<metadata>/metadata)?", re.IGNORECASE)
# Where TensorFlow Serving has its own for Prometheus (tensorflow_serving/config/monitoring_config.proto).
METRICS = "/monitoring/prometheus/metrics"
# Larger bodies are read, and larger answers written, in a thread: it takes more than the millisecond that a call
# on another connection may be made to wait.
INLINE_BYTES = 1 << 16

Result = TypeVar("Result")


def rest_application(repository: Repository) -> Starlette:
    """An ASGI application; every answer that is not 200 has the body {"error": sentence}."""
    return Starlette(
        routes=[Mount("/", app=_Rest(repository))],
        exception_handlers={
            VisionserveError: _refused,
            HTTPException: _refused_by_http,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
    )


class _Rest:
    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = scope["raw_path"].decode("ascii")
        if request.method == "GET" and path == METRICS:
            text, content_type = metrics.exposition()
            await Response(text, headers={"content-type": content_type})(scope, receive, send)
            return
        if not path.lower().startswith("/v1/"):
            raise HTTPException(404, f"There is nothing at {path}: ask /v1/models/NAME.")
        if request.method == "POST" and (match := _CALL.fullmatch(path)):
            response = await self._call(request, *_which(match), match["method"].lower())
        elif request.method == "GET" and (match := _DESCRIPTION.fullmatch(path)):
            response = self._describe(*_which(match), metadata=bool(match["metadata"]))
        else:
            raise InvalidInputError(f"Malformed request: {request.method} {path}.")
        await response(scope, receive, send)

    def _describe(self, name: str, version: int | None, label: str, metadata: bool) -> Response:
        if not metadata:
            statuses = self._repository.statuses(name, version, label)
            return JSONResponse(_json(status_response(statuses)))
        model = self._repository.find(name, version, label)
        return JSONResponse(
            {
                "model_spec": _json(metadata_response(model).model_spec),
                "metadata": {"signature_def": _json(signature_definitions(model))},
            }
        )

    async def _call(self, request: Request, name: str, version: int | None, label: str, method: str) -> Response:
        body = await _body(request)
        model = self._repository.find(name, version, label)
        if method != "predict":
            raise InvalidInputError(f"Model {name} has no signature for :{method}: ask :predict.")
        asked = await _aside(len(body), read_predict_request, body, model.signature)
        # A version may have been replaced while its request was read.
        model = self._repository.find(name, version, label)
        outputs = await _unless_gone(request, model.infer(asked.inputs, asked.signature_key))
        size = sum(array.nbytes for array in outputs.values())
        answer = await _aside(size, predict_response, outputs, asked.by_rows)
        return Response(answer, media_type="application/json")


def _which(match: re.Match) -> tuple[str, int | None, str]:
    # OpenVINO Model Server's clients say 0 for the latest version.
    return unquote(match["name"]), int(match["version"] or 0) or None, unquote(match["label"] or "")


def _json(message: Any) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


async def _body(request: Request) -> bytes:
    size = 0
    parts = []
    _check_size(int(request.headers.get("content-length", 0)))
    async for part in request.stream():
        size += len(part)
        _check_size(size)
        parts.append(part)
    return b"".join(parts)


def _check_size(size: int) -> None:
    if size > MAX_TENSOR_BYTES:
        raise HTTPException(413, f"The body is larger than {MAX_TENSOR_BYTES >> 20} MiB.")


async def _aside(size: int, function: Callable[..., Result], *arguments: Any) -> Result:
    return function(*arguments) if size < INLINE_BYTES else await asyncio.to_thread(function, *arguments)


async def _unless_gone(request: Request, answering: Coroutine[Any, Any, Result]) -> Result:
    """Gives up when the client has. Raises ClientDisconnect."""
    answer = asyncio.create_task(answering)
    gone = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, VisionserveError)
    return JSONResponse({"error": str(error)}, error.status)


async def _refused_by_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _gone(request: Request, error: Exception) -> Response:
    # Nobody reads it; TensorFlow Serving has the same.
    return Response(status_code=CLIENT_GONE)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "internal server error"}, 500)
