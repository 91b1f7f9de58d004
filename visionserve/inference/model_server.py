import argparse
import asyncio
import gc
import logging
import signal
from collections.abc import Sequence
from pathlib import Path

import grpc
import uvloop
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from pydantic import BaseModel

from visionserve import metrics_folder, tracing
from visionserve.errors import DeploymentError, VisionserveError
from visionserve.farewell import leave_after
from visionserve.inference.casualties import Casualties
from visionserve.inference.grpc_messages import Refusing
from visionserve.inference.listener import check_free, listen
from visionserve.inference.model_settings import ModelSettings
from visionserve.inference.prediction_service import ModelService, PredictionService
from visionserve.inference.repository import Repository
from visionserve.inference.tensors import MAX_TENSOR_BYTES
from visionserve.lifeline import Lifeline
from visionserve.pulse import Pulse

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds after the grace for the engines, which may still run what was given up.
FAREWELL = 2.0

log = logging.getLogger("visionserve")


class ServerSettings(BaseModel):
    """Where and what to serve.

    `address`: where gRPC listens, such as unix:/run/model.sock or 127.0.0.1:8500; `rest_address`: HOST:PORT of REST,
    None for no REST; `grace`: seconds for the calls in flight at the end, so few that the whole end is over within the
    30 that Kubernetes gives a container; `poll`: seconds between looks for new versions, 0 for none; `casualties` and
    `pulse`: the files of Casualties and of a Pulse, None for none; `metrics`: the folder to keep metrics in, None for
    this process's memory.
    """

    address: str
    rest_address: str | None = None
    models: list[ModelSettings]
    grace: float = 25.0
    poll: float = 0.0
    casualties: Path | None = None
    pulse: Path | None = None
    metrics: Path | None = None


def run(settings: ServerSettings, lifeline: Lifeline | None = None) -> None:
    """`serve` on an event loop of its own, traced where the environment says so."""
    tracing.start("model-server")
    uvloop.run(serve(settings, lifeline or Lifeline(None)))
    tracing.stop()


async def serve(settings: ServerSettings, lifeline: Lifeline) -> None:
    """Loads the models, then serves them until SIGTERM or SIGINT; calls in flight are answered.

    From then on the process has the grace and FAREWELL seconds, whatever an engine does. While it loads, such a signal
    ends it at once.
    Raises DeploymentError for an address that is in use, ModelError for a model that does not load.
    """
    check_free(settings.address)
    listener = listen(settings.rest_address) if settings.rest_address else None
    pulse = Pulse(settings.pulse) if settings.pulse else None
    repository = Repository(settings.models, Casualties(settings.casualties, pulse) if settings.casualties else None)
    for number in SIGNALS:
        # The event loop stands still until all is loaded, and would not hear them.
        signal.signal(number, signal.SIG_DFL)
    repository.load()
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = _grpc_server(repository, settings.address)
    await server.start()
    rest = None
    where = settings.address
    if listener is not None:
        # The local runtime has no use for REST and its libraries.
        from visionserve.inference.http_server import HttpServer
        from visionserve.inference.rest import rest_application

        rest = HttpServer(rest_application(repository), listener, settings.grace)
        await rest.start()
        where = f"{settings.address} (gRPC) and {settings.rest_address} (REST)"
    # The models stay: the garbage collector need not look through them again and again between requests.
    gc.collect()
    gc.freeze()
    engines = sorted({model.engine for model in settings.models})
    print(f"serving {', '.join(repository.names)} with {', '.join(engines)} on {where}", flush=True)
    background = [asyncio.create_task(_watch(repository, settings.poll))]
    if pulse is not None:
        background.append(asyncio.create_task(pulse.beat()))
    lifeline.ready()
    await stop.wait()
    leave_after(settings.grace + FAREWELL)
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    stopping = [server.stop(settings.grace)]
    if rest is not None:
        stopping.append(rest.stop())
    await asyncio.gather(*stopping)
    repository.close()


async def _watch(repository: Repository, poll: float) -> None:
    if poll:
        try:
            await repository.watch(poll)
        except Exception:
            log.exception("new versions are not looked for any more; what is loaded is served on")
            raise


def _grpc_server(repository: Repository, address: str) -> grpc.aio.Server:
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_TENSOR_BYTES),
            ("grpc.max_send_message_length", MAX_TENSOR_BYTES),
            ("grpc.so_reuseport", 0),
        ]
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(repository), Refusing(server))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(repository), Refusing(server))
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise DeploymentError(f"Cannot listen on {address}: choose another.") from error
    return server


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m visionserve.inference.model_server")
    parser.add_argument("settings", type=Path, help="JSON file of ServerSettings")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    lifeline = Lifeline.from_environment()
    try:
        settings = ServerSettings.model_validate_json(options.settings.read_bytes())
        if settings.metrics is not None:
            metrics_folder.keep_in(settings.metrics)
        run(settings, lifeline)
    except VisionserveError as error:
        print(f"error: {error}", flush=True)
        lifeline.failed(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
