import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from visionserve.cortex import payload
from visionserve.cortex.admission import Admission, Outcome
from visionserve.cortex.in_flight import Slot
from visionserve.cortex.metrics import RequestMetrics
from visionserve.cortex.page.document import Page
from visionserve.cortex.predictor import Predictor
from visionserve.cortex.predictor_pool import PredictorPool
from visionserve.cortex.responses import error_response, json_response
from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import ModelUnavailableError, OverloadedError
from visionserve.inference.client import Signatures
from visionserve.inference.unanswered import CLIENT_GONE, is_gone, unanswered_status

SUMMARY = "make a prediction by sending a POST request with an image to this endpoint"
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
        in_flight: Slot,
        metrics: RequestMetrics,
        autoscaled: bool = False,
    ) -> None:
        """`autoscaled`: replicas are added where many requests are in flight, so that none but
        max_replica_concurrency keeps them out.
        """
        self._spec = spec
        self._pools = [PredictorPool(predictor, spec.predictor.threads_per_process) for predictor in predictors]
        self._client = client
        count, threads = spec.predictor.processes_per_replica, spec.predictor.threads_per_process
        self._admission = Admission(
            in_flight,
            count,
            count * threads,
            len(predictors) * threads,
            spec.autoscaling.max_replica_concurrency,
            adapts=not autoscaled,
        )
        self._metrics = metrics
        self._page = Page(spec, engine)

    def application(self) -> ASGIApp:
        paths = {"/", self._spec.networking.endpoint or "/"}
        predict = _PredictEndpoint(self)
        routes = [Route(path, self.summary, methods=["GET"]) for path in sorted(paths)]
        # Below each of them, because the page knows its own address and nothing of a prefix before it.
        parts = {"healthz": self.health, "metrics": self.metrics, "sample.jpg": self.sample}
        routes += [Route(f"{path.rstrip('/')}/{name}", part) for path in sorted(paths) for name, part in parts.items()]
        others = Starlette(routes=routes, exception_handlers={HTTPException: _on_http_error, Exception: _on_error})

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            # A prediction answers its own errors and needs no router: it would pay for both with each request.
            asks = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in paths
            chosen = predict if asks else others
            await chosen(scope, receive, send)

        return application

    async def predict(self, request: Request) -> tuple[Response, Callable[[], None] | None]:
        """The answer, and what is to be called when it has been sent."""
        payload.check_length(request)
        try:
            self._admission.check()
            body = await payload.read_body(request)
            # Only now: clients that take long to send a body must not keep others out.
            stay = self._admission.enter()
        except OverloadedError as error:
            self._metrics.reject("concurrency")
            return error_response(str(error), error.status, RETRY_LATER), None
        self._metrics.in_flight.inc()
        outcome = Outcome.FAILED
        try:
            pool = min(self._pools, key=PredictorPool.load)
            response, call = await pool.answer(request, body, partial(self._admission.check_wait, stay))
            if response.status_code < 400:
                outcome = Outcome.ANSWERED
            return response, partial(pool.post_predict, call) if call is not None else None
        except OverloadedError:
            outcome = Outcome.REFUSED
            raise
        finally:
            self._admission.leave(stay, outcome)
            self._metrics.in_flight.dec()

    def finish(self, seconds: float) -> None:
        """Waits for what is still to do for answered requests, so long at most."""
        end = time.monotonic() + seconds
        for pool in self._pools:
            pool.finish(end - time.monotonic())

    def observe(self, code: int, seconds: float) -> None:
        self._metrics.requests.labels(str(code)).inc()
        self._metrics.seconds.observe(seconds)

    def reject(self, reason: str) -> None:
        self._metrics.reject(reason)

    async def summary(self, request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return self._page.response()
        summary: dict[str, Any] = {"message": SUMMARY}
        client = self._client
        if client is not None:
            summary["model_signatures"] = await asyncio.to_thread(client.input_signatures)
        return json_response(summary)

    async def sample(self, request: Request) -> Response:
        return self._page.sample()

    async def health(self, request: Request) -> Response:
        if self._client is None or await asyncio.to_thread(self._client.available):
            return json_response({"status": "ready"})
        return json_response({"status": "the model server does not answer"}, 503, RETRY_LATER)

    async def metrics(self, request: Request) -> Response:
        up = None if self._client is None else await asyncio.to_thread(self._client.available)
        text, content_type = await asyncio.to_thread(self._metrics.exposition, up)
        return Response(text, headers={"content-type": content_type})


class _PredictEndpoint:
    """An ASGI endpoint rather than a function, so that post_predict starts after the answer has been sent."""

    def __init__(self, api: ApiApp) -> None:
        self._api = api
        self._bodies = payload.Bodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = self._bodies.body(scope, receive)
        try:
            await self._answer(scope, body, send)
        finally:
            body.release()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        after = None
        try:
            response, after = await self._api.predict(Request(scope, receive))
        except HTTPException as error:
            response = error_response(error.detail, error.status_code, dict(error.headers or {}))
        except ClientDisconnect:
            self._api.observe(unanswered_status(scope), time.perf_counter() - started)
            return
        except (ModelUnavailableError, OverloadedError) as error:
            log.warning("%s", error)
            self._api.reject("queue" if isinstance(error, OverloadedError) else "model_server")
            response = error_response(str(error), error.status, RETRY_LATER)
        except asyncio.CancelledError:
            # The server ends, and its grace is over. The predictor goes on until its process is killed.
            sentence = "The API is being stopped and could not wait for this request any longer: try again."
            self._api.reject("stopping")
            response = error_response(sentence, 503, RETRY_LATER)
        except Exception:
            log.exception("the predictor failed")
            response = Response("internal server error", 500, media_type="text/plain")
        if is_gone(scope):
            self._api.observe(CLIENT_GONE, time.perf_counter() - started)
            if after is not None:
                after()
            return
        response.headers["server-timing"] = f"total;dur={1000 * (time.perf_counter() - started):.1f}"
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
