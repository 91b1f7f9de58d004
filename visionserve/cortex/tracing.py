"""The spans of an API's own process: one for each prediction's HTTP request, one for the predictor within it.

Names and attributes are OpenTelemetry's for HTTP servers (https://opentelemetry.io/docs/specs/semconv/http/http-spans).
"""

import contextvars
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visionserve import tracing
from visionserve.inference.tracing import predict_began
from visionserve.inference.unanswered import unanswered_status

Result = TypeVar("Result")


def traced_application(application: ASGIApp) -> ASGIApp:
    """The same application; where this process is traced, each POST of it is a span, in its caller's trace."""
    if tracing.tracer() is None:
        return application

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await application(scope, receive, send)
            return
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        attributes = _request_attributes(scope, headers)
        with tracing.span(f"POST {scope['path']}", "SERVER", tracing.parent_in(headers), **attributes) as span:
            try:
                await application(scope, receive, watched)
            finally:
                status = status or unanswered_status(scope)
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    tracing.fail(span, str(status))

    return traced


def traced_predict(predict: Callable[..., Result]) -> Callable[..., Result]:
    """What is to be called in another thread in place of `predict`: the same, as a span of the current request."""
    if tracing.tracer() is None:
        return predict
    return partial(contextvars.copy_context().run, _predict, predict)


def _predict(predict: Callable[..., Result], *arguments: Any) -> Result:
    with tracing.span("predict"):
        predict_began.set(time.monotonic())
        return predict(*arguments)


def _request_attributes(scope: Scope, headers: dict[str, str]) -> dict[str, Any]:
    attributes = {
        "http.request.method": scope["method"],
        "http.route": scope["path"],
        "url.path": scope["path"],
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }
    if scope.get("client"):
        attributes["client.address"] = scope["client"][0]
    if scope.get("server"):
        attributes["server.address"], attributes["server.port"] = scope["server"]
    if "user-agent" in headers:
        attributes["user_agent.original"] = headers["user-agent"]
    return attributes
