import asyncio
import gc
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import uvloop

from visionserve.errors import UsageError
from visionserve.farewell import leave_after
from visionserve.inference.http_server import HttpServer
from visionserve.inference.listener import listen
from visionserve.log_lines import log_to_stderr
from visionserve.redaction import redacted
from visionserve.services.rest.app import application
from visionserve.services.rest.classifier import Classifier
from visionserve.services.rest.embedded import EmbeddedServer
from visionserve.services.rest.grpc_serving import GrpcServing
from visionserve.services.rest.rest_serving import RestServing
from visionserve.services.rest.routes import Route, read_routes
from visionserve.services.rest.serving import Serving, parse_address
from visionserve.services.rest.settings import Settings

# Seconds for the requests in flight at the end.
GRACE = 25.0
# Seconds after which the model server is killed, and what else still runs, of the 30 that Kubernetes gives a container.
CHILD_SECONDS = GRACE + 2
END_SECONDS = CHILD_SECONDS + 1


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; requests in flight are answered. It ends within END_SECONDS.

    Raises UsageError for wrong settings, DeploymentError for a port in use or a model server that does not start.
    """
    log_to_stderr()
    # A signal before anything is served cancels.
    with suppress(asyncio.CancelledError):
        uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    task = asyncio.current_task()
    assert task is not None
    _on_signal(task.cancel)
    routes: Sequence[Route] = read_routes(settings.config)
    embedded = None
    serving: Serving
    if settings.tensorflow_serving:
        routes, serving = _remote(settings, routes)
        who = f"TensorFlow Serving at {redacted(settings.tensorflow_serving)}"
    else:
        embedded = EmbeddedServer(routes, settings.engine)
        serving = GrpcServing(embedded.address, {route.model for route in routes}, settings.timeout)
        who = ", ".join(embedded.engines)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    end: float | None = None
    try:
        # Before the models are loaded: who comes too early waits, and a port in use is told at once.
        listener = listen(f"{host}:{settings.port}")
        if embedded:
            await embedded.start()
        classifiers = [Classifier(route, serving, settings.max_pixels) for route in routes]
        app = application(classifiers, settings.max_upload_bytes, settings.max_in_flight)
        server = HttpServer(app, listener, GRACE)
        stop = asyncio.Event()
        _on_signal(stop.set)
        await server.start()
        # What is loaded stays: the garbage collector need not look through it again and again between requests.
        gc.collect()
        gc.freeze()
        names = ", ".join(route.name for route in routes)
        print(f"classifying at http://{host}:{settings.port}/classify/ ({names}) with {who}", flush=True)
        await stop.wait()
        end = time.monotonic() + CHILD_SECONDS
        leave_after(END_SECONDS)
        await server.stop()
    finally:
        serving.close()
        if embedded:
            await embedded.stop(end - time.monotonic() if end else CHILD_SECONDS - GRACE)


def _remote(settings: Settings, routes: Sequence[Route]) -> tuple[Sequence[Route], Serving]:
    address = parse_address(settings.tensorflow_serving)
    if address.model:
        if len(routes) > 1:
            raise UsageError(
                f"--tensorflow-serving names the model {address.model}, but there are {len(routes)} routes: leave it "
                "out, and give each route its `model`."
            )
        routes = [replace(routes[0], model=address.model)]
    models = {route.model for route in routes}
    if address.is_rest:
        return routes, RestServing(address.location, settings.max_in_flight, settings.timeout)
    return routes, GrpcServing(address.location, models, settings.timeout)


def _on_signal(callback: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, callback)
