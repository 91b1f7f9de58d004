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
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from visionserve import descriptors, metrics_folder, tracing
from visionserve.cortex.log_format import log_to_stdout
from visionserve.cortex.settings import AUTOSCALED, RunSettings
from visionserve.errors import UsageError, VisionserveError
from visionserve.lifeline import LINES_FD, Lifeline

log = logging.getLogger("visionserve")

MODEL_SERVER = "model server"
# Seconds for the requests in flight at the end.
GRACE = 25
# Seconds for a TensorFlow Serving elsewhere, which runs already or is misnamed.
REMOTE_TIMEOUT = 20.0
# How long a kept-alive connection is still answered, with "connection: close", before it is closed under its client.
FAREWELL = 2.0
# Seconds after which a run that ends is ended, of the 30 that Kubernetes gives a container.
END_SECONDS = GRACE + FAREWELL + 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m visionserve.cortex.host")
    parser.add_argument("run", type=Path, help="JSON file of RunSettings")
    parser.add_argument("--slot", type=int, required=True, help="this worker's number in its replica")
    parser.add_argument("--listener", type=int, required=True, help="descriptor of the listening socket")
    options = parser.parse_args(arguments)
    # What the predictor prints is in the log as it is printed, not when some kilobytes have gathered.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    lifeline = Lifeline.from_environment()
    lines = int(os.environ.pop(LINES_FD))
    # What a predictor forks would otherwise hold it.
    os.register_at_fork(after_in_child=partial(os.close, lines))
    os.set_inheritable(lines, False)
    run = RunSettings.model_validate_json(options.run.read_bytes())
    log_to_stdout(run.log_format)
    descriptors.raise_limit()
    metrics_folder.keep_in(run.metrics)
    os.umask(run.umask)
    try:
        server = _build(run, options.slot, lifeline, lines)
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
    listener = socket.socket(fileno=options.listener)
    # What a predictor forks would otherwise hold the port after the API's end.
    os.register_at_fork(after_in_child=listener.close)
    # Ends this process by the signal that stopped it: nothing comes after it.
    server.run(sockets=[listener])
    return 0


def _build(run: RunSettings, slot: int, lifeline: Lifeline, lines: int):  # type: ignore[no-untyped-def]
    import uvicorn

    from visionserve.cortex.acceptor import Acceptor
    from visionserve.cortex.app import ApiApp
    from visionserve.cortex.entrance import entrance
    from visionserve.cortex.in_flight import InFlight
    from visionserve.cortex.line_writer import LineWriter
    from visionserve.cortex.metrics import WorkerMetrics
    from visionserve.cortex.predictor import Predictor, enter_project
    from visionserve.cortex.tracing import traced_application
    from visionserve.inference.client import ServingClient
    from visionserve.inference.connection_watch import ConnectionWatch
    from visionserve.inference.http_protocol import WatchedProtocol
    from visionserve.inference.http_server import last_words
    from visionserve.pulse import Pulse

    class DrainingServer(uvicorn.Server):
        """Shares the listening socket with other workers, and closes without losing a request: first it stops accepting
        and tells clients to reconnect elsewhere."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup([])
            self._beating = asyncio.create_task(pulse.beat())
            self.servers: list[Any] = [
                Acceptor(listener, self._protocol, watch.make_room) for listener in sockets or ()
            ]

        def _protocol(self) -> asyncio.Protocol:
            protocol: Any = self.config.http_protocol_class
            return protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

        async def _take_what_waits(self, listener: socket.socket) -> None:
            """Connections that the kernel has made already: with the last descriptor of `listener` they would end."""
            loop = asyncio.get_running_loop()
            with suppress(OSError):  # none waits any more, or none can be taken
                while True:
                    connection, _ = listener.accept()
                    await loop.connect_accepted_socket(self._protocol, connection)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            began = time.monotonic()
            for server in self.servers:
                server.close()
            closing.set()
            await asyncio.sleep(0)  # the loop drops the listening sockets in its next round
            for listener in sockets or ():
                await self._take_what_waits(listener)
                listener.close()
            lifeline.closed()
            while self.server_state.connections and time.monotonic() < began + FAREWELL:
                await asyncio.sleep(0.05)
            await super().shutdown(sockets)
            await last_words(self)
            await asyncio.to_thread(api.finish, began + GRACE + FAREWELL - time.monotonic())
            await asyncio.to_thread(tracing.stop)
            if writer is not None:
                writer.close()

    pulse = Pulse(run.pulse(f"worker {slot}"))
    enter_project(run.spec)
    _trace(run.spec.name)
    client = None
    if run.signatures:
        server_pulse = None if run.remote else Pulse(run.pulse(MODEL_SERVER))
        client = ServingClient(run.model_address, run.signatures, pulse=server_pulse)
        client.wait_until_available(REMOTE_TIMEOUT if run.remote else run.start_timeout)
    predictor = Predictor(run.spec, client)
    if "cv2" in sys.modules:
        # The threads of a worker are its concurrency; OpenCV's own would only fight over the same cores.
        sys.modules["cv2"].setNumThreads(1)
    in_flight = InFlight(run.in_flight, run.spec.predictor.processes_per_replica).slot(slot)
    metrics = WorkerMetrics(run.metrics, run.spec.name, run.engine)
    autoscaled = bool(os.environ.get(AUTOSCALED))
    api = ApiApp(run.spec, run.engine, [predictor], client, in_flight, metrics, autoscaled)
    closing = asyncio.Event()
    writer = LineWriter(lines) if run.access_log else None
    write = writer.write if writer else None
    inside = entrance(api.application(), run.api_keys, metrics.refuse, in_flight, write, run.log_format)
    application = _Closing(traced_application(inside), closing)
    watch = ConnectionWatch(descriptors.connections())
    protocol: Any = partial(WatchedProtocol, watch)
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        # Its lines go the way of all others.
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )
    return DrainingServer(config)


def _trace(service: str) -> None:
    """Raises UsageError where the environment asks for traces in a way that is none."""
    try:
        tracing.start(service)
    except ValueError as error:
        raise UsageError(f"The environment's OTEL_ variables ask for traces, but not rightly: {error}.") from error


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
