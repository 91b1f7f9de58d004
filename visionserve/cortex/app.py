import asyncio
import html
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from visionserve.cortex import payload
from visionserve.cortex.in_flight import Count, Slot
from visionserve.cortex.metrics import RequestMetrics
from visionserve.cortex.predictor import Predictor
from visionserve.cortex.predictor_pool import PredictorPool
from visionserve.cortex.responses import error_response, json_response
from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import ModelUnavailableError, OverloadedError
from visionserve.inference.client import Signatures

SUMMARY = "make a prediction by sending a POST request with an image to this endpoint"
# No answer reaches such a client; the number is the one that nginx logs.
CLIENT_GONE = 499
RETRY_LATER = {"retry-after": "1"}

log = logging.getLogger("visionserve")


class ModelClient(Protocol):
    """What the summary and the health of an API ask of its tensorflow_client."""

    def available(self) -> bool: ...

    def input_signatures(self) -> Signatures: ...


class ApiApp:
    """The HTTP side of an API in one process: predictions, summary, health and metrics.

    Each of `predictors` is called on threads_per_process threads of its own.
    """

    def __init__(
        self,
        spec: ApiSpec,
        engine: str | None,
        predictors: Sequence[Predictor],
        client: ModelClient | None,
        in_flight: Slot | Count,
        metrics: RequestMetrics,
    ) -> None:
        self._spec = spec
        self._engine = engine
        self._pools = [PredictorPool(predictor, spec.predictor.threads_per_process) for predictor in predictors]
        self._client = client
        self._in_flight = in_flight
        self._limit = spec.autoscaling.max_replica_concurrency
        self._metrics = metrics
        self._page = resources.files("visionserve.cortex").joinpath("page.html").read_text()

    def application(self) -> ASGIApp:
        paths = {"/", self._spec.networking.endpoint or "/"}
        predict = _PredictEndpoint(self)
        routes = [Route(path, self.summary, methods=["GET"]) for path in sorted(paths)]
        routes += [Route("/healthz", self.health), Route("/metrics", self.metrics)]
        others = Starlette(routes=routes, exception_handlers={HTTPException: _on_http_error, Exception: _on_error})

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            # A prediction answers its own errors and needs no router: it would pay for both with each request.
            asks = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in paths
            chosen = predict if asks else others
            await chosen(scope, receive, send)

        return application

    async def predict(self, request: Request) -> tuple[Response, Callable[[], None] | None]:
        """The answer, and what is to be called when it has been sent."""
        if self._in_flight.total() >= self._limit:
            sentence = f"More than max_replica_concurrency={self._limit} requests are in flight: try again later."
            return error_response(sentence, 503, RETRY_LATER), None
        self._in_flight.add(1)
        self._metrics.in_flight.inc()
        try:
            body = await payload.read_body(request)
            pool = min(self._pools, key=PredictorPool.load)
            response, call = await pool.answer(request, body)
            return response, partial(pool.post_predict, call) if call is not None else None
        finally:
            self._in_flight.add(-1)
            self._metrics.in_flight.dec()

    def observe(self, code: int, seconds: float) -> None:
        self._metrics.requests.labels(str(code)).inc()
        self._metrics.seconds.observe(seconds)

    async def summary(self, request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            page = self._page.replace("{name}", html.escape(self._spec.name))
            return HTMLResponse(page.replace("{engine}", html.escape(self._engine or "python")))
        summary: dict[str, Any] = {"message": SUMMARY}
        client = self._client
        if client is not None:
            summary["model_signatures"] = await asyncio.to_thread(client.input_signatures)
        return json_response(summary)

    async def health(self, request: Request) -> Response:
        if self._client is None or await asyncio.to_thread(self._client.available):
            return json_response({"status": "ready"})
        return json_response({"status": "the model server does not answer"}, 503, RETRY_LATER)

    async def metrics(self, request: Request) -> Response:
        text, content_type = await asyncio.to_thread(self._metrics.exposition)
        return Response(text, headers={"content-type": content_type})


class _PredictEndpoint:
    """An ASGI endpoint rather than a function, so that post_predict starts after the answer has been sent."""

    def __init__(self, api: ApiApp) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request = Request(scope, payload.limited(receive))
        after = None
        try:
            response, after = await self._api.predict(request)
        except HTTPException as error:
            response = error_response(error.detail, error.status_code)
        except ClientDisconnect:
            self._api.observe(CLIENT_GONE, time.perf_counter() - started)
            return
        except (ModelUnavailableError, OverloadedError) as error:
            log.warning("%s", error)
            response = error_response(str(error), error.status, RETRY_LATER)
        except Exception:
            log.exception("the predictor failed")
            response = Response("internal server error", 500, media_type="text/plain")
        await response(scope, receive, send)
        self._api.observe(response.status_code, time.perf_counter() - started)
        if after is not None:
            after()


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.detail, error.status_code, dict(error.headers or {}))


async def _on_error(request: Request, error: Exception) -> Response:
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return Response("internal server error", 500, media_type="text/plain")
