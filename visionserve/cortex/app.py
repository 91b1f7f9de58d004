import asyncio
import html
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from visionserve.cortex import metrics, payload
from visionserve.cortex.in_flight import InFlight
from visionserve.cortex.predictor import Predictor
from visionserve.cortex.responses import error_response, json_response, response_of
from visionserve.cortex.settings import RunSettings
from visionserve.errors import ModelUnavailableError, OverloadedError
from visionserve.inference.client import ServingClient

SUMMARY = "make a prediction by sending a POST request with an image to this endpoint"
# No answer reaches such a client; the number is the one that nginx logs.
CLIENT_GONE = 499
RETRY_LATER = {"retry-after": "1"}

log = logging.getLogger("visionserve")


class ApiApp:
    """One worker's HTTP side of an API: predictions, summary, health and metrics."""

    def __init__(
        self, run: RunSettings, predictor: Predictor, client: ServingClient | None, in_flight: InFlight, slot: int
    ) -> None:
        self._run = run
        self._predictor = predictor
        self._client = client
        self._in_flight = in_flight
        self._slot = slot
        self._limit = run.spec.autoscaling.max_replica_concurrency
        self._threads = ThreadPoolExecutor(run.spec.predictor.threads_per_process, thread_name_prefix="predict")
        self._working = 0
        self._metrics = metrics.WorkerMetrics()
        self._page = resources.files("visionserve.cortex").joinpath("page.html").read_text()

    def application(self) -> ASGIApp:
        paths = {"/", self._run.spec.networking.endpoint or "/"}
        predict = _PredictEndpoint(self)
        routes = [Route(path, self.summary, methods=["GET"]) for path in sorted(paths)]
        routes += [Route("/healthz", self.health), Route("/metrics", self.metrics)]
        others = Starlette(routes=routes, exception_handlers={HTTPException: _on_http_error, Exception: _on_error})

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            # A prediction answers its own errors and needs no router: it would pay for both with each request.
            chosen = predict if scope["method"] == "POST" and scope["path"] in paths else others
            await chosen(scope, receive, send)

        return application

    async def predict(self, request: Request) -> tuple[Response, dict[str, Any] | None]:
        """The answer, and what post_predict is to be called with."""
        if self._in_flight.total() >= self._limit:
            sentence = f"More than max_replica_concurrency={self._limit} requests are in flight: try again later."
            return error_response(sentence, 503, RETRY_LATER), None
        self._in_flight.add(self._slot, 1)
        self._metrics.in_flight.inc()
        try:
            body = await payload.read_body(request)
            return await self._answer_in_thread(request, body)
        finally:
            self._in_flight.add(self._slot, -1)
            self._metrics.in_flight.dec()

    def observe(self, code: int, seconds: float) -> None:
        self._metrics.requests.labels(str(code)).inc()
        self._metrics.seconds.observe(seconds)

    def post_predict(self, call: dict[str, Any]) -> None:
        self._threads.submit(self._post_predict, call)

    async def summary(self, request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            page = self._page.replace("{name}", html.escape(self._run.spec.name))
            return HTMLResponse(page.replace("{engine}", html.escape(self._run.engine or "python")))
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
        text, content_type = await asyncio.to_thread(metrics.exposition, self._run.metrics)
        return Response(text, headers={"content-type": content_type})

    async def _answer_in_thread(self, request: Request, body: Any) -> tuple[Response, dict[str, Any] | None]:
        """Raises ClientDisconnect when the client goes while the request waits for a thread."""
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._answer, request, body)
        self._working += 1
        try:
            if self._working > self._run.spec.predictor.threads_per_process:
                gone = asyncio.create_task(_client_gone(request))
                waits: set[asyncio.Future[Any]] = {work, gone}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
                if not work.done():
                    work.cancel()
                    raise ClientDisconnect
            return await work
        finally:
            self._working -= 1

    def _answer(self, request: Request, body: Any) -> tuple[Response, dict[str, Any] | None]:
        parsed = payload.parse(request, body)
        call = {"payload": parsed, "query_params": request.query_params, "headers": request.headers}
        prediction = self._predictor.predict(**call)
        response = response_of(prediction)
        return response, {"response": prediction, **call} if self._predictor.has_post_predict else None

    def _post_predict(self, call: dict[str, Any]) -> None:
        try:
            self._predictor.post_predict(**call)
        except Exception:
            log.exception("post_predict failed")


class _PredictEndpoint:
    """An ASGI endpoint rather than a function, so that post_predict starts after the answer has been sent."""

    def __init__(self, api: ApiApp) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request = Request(scope, payload.limited(receive))
        call = None
        try:
            response, call = await self._api.predict(request)
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
        if call is not None:
            self._api.post_predict(call)


async def _client_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(error.detail, error.status_code, dict(error.headers or {}))


async def _on_error(request: Request, error: Exception) -> Response:
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return Response("internal server error", 500, media_type="text/plain")
