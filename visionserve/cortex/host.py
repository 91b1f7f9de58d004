"""An HTTP worker: one process of a replica, which runs the user's predictor."""

import argparse
import asyncio
import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionserve.cortex.settings import RunSettings
from visionserve.errors import VisionserveError
from visionserve.lifeline import Lifeline

log = logging.getLogger("visionserve")

GRACE = 30
# Seconds for a TensorFlow Serving elsewhere, which runs already or is misnamed.
REMOTE_TIMEOUT = 20.0
# How long a kept-alive connection is still answered, with "connection: close", before it is closed under its client.
FAREWELL = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m visionserve.cortex.host")
    parser.add_argument("run", type=Path, help="JSON file of RunSettings")
    parser.add_argument("--slot", type=int, required=True, help="this worker's number in its replica")
    parser.add_argument("--listener", type=int, required=True, help="descriptor of the listening socket")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    lifeline = Lifeline.from_environment()
    run = RunSettings.model_validate_json(options.run.read_bytes())
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(run.metrics)
    try:
        server = _build(run, options.slot, lifeline)
    except VisionserveError as error:
        lifeline.failed(str(error))
        return 1
    except Exception as error:
        log.exception("the predictor could not be set up")
        lifeline.failed(f"{run.spec.predictor.path} failed while it was set up: {type(error).__name__}: {error}")
        return 1
    # What was set up stays: the garbage collector need not look through it again and again between requests.
    gc.collect()
    gc.freeze()
    lifeline.ready()
    lifeline.wait_for_go()
    server.run(sockets=[socket.socket(fileno=options.listener)])
    return 0


def _build(run: RunSettings, slot: int, lifeline: Lifeline):  # type: ignore[no-untyped-def]
    import uvicorn

    from visionserve.cortex.acceptor import Acceptor
    from visionserve.cortex.app import ApiApp
    from visionserve.cortex.in_flight import InFlight
    from visionserve.cortex.metrics import WorkerMetrics
    from visionserve.cortex.predictor import Predictor, enter_project
    from visionserve.inference.client import ServingClient

    class DrainingServer(uvicorn.Server):
        """Shares the listening socket with other workers, and closes without losing a request: first it stops accepting
        and tells clients to reconnect elsewhere."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup([])
            self.servers: list[Any] = [Acceptor(listener, self._protocol) for listener in sockets or ()]

        def _protocol(self) -> asyncio.Protocol:
            protocol: Any = self.config.http_protocol_class
            return protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for server in self.servers:
                server.close()
            closing.set()
            await asyncio.sleep(0)  # the loop drops the listening sockets in its next round
            lifeline.closed()
            deadline = time.monotonic() + FAREWELL
            while self.server_state.connections and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            await super().shutdown(sockets)

    enter_project(run.spec)
    client = None
    if run.signatures:
        client = ServingClient(run.model_address, run.signatures)
        client.wait_until_available(REMOTE_TIMEOUT if run.remote else run.start_timeout)
    predictor = Predictor(run.spec, client)
    if "cv2" in sys.modules:
        # The threads of a worker are its concurrency; OpenCV's own would only fight over the same cores.
        sys.modules["cv2"].setNumThreads(1)
    in_flight = InFlight(run.in_flight, run.spec.predictor.processes_per_replica)
    api = ApiApp(run.spec, run.engine, [predictor], client, in_flight.slot(slot), WorkerMetrics(run.metrics))
    closing = asyncio.Event()
    application = _Closing(api.application(), closing)
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )
    return DrainingServer(config)


class _Closing:
    """Adds "connection: close" to every answer once `closing` is set."""

    def __init__(self, application, closing: asyncio.Event) -> None:  # type: ignore[no-untyped-def]
        self._application = application
        self._closing = closing

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        async def send_closing(message) -> None:  # type: ignore[no-untyped-def]
            if message["type"] == "http.response.start" and self._closing.is_set():
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._application(scope, receive, send_closing)


if __name__ == "__main__":
    raise SystemExit(main())
