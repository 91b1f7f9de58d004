import argparse
import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

import grpc
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from pydantic import BaseModel

from visionserve.errors import VisionserveError
from visionserve.inference.prediction_service import ModelService, PredictionService
from visionserve.inference.repository import Repository
from visionserve.inference.served_model import ModelSettings
from visionserve.inference.tensors import MAX_TENSOR_BYTES
from visionserve.lifeline import Lifeline


class ServerSettings(BaseModel):
    """`address`: where gRPC listens, such as unix:/run/model.sock or 127.0.0.1:8500; `grace`: seconds."""

    address: str
    models: list[ModelSettings]
    grace: float = 30.0


async def serve(settings: ServerSettings, lifeline: Lifeline) -> None:
    """Loads the models, then serves them until SIGTERM or SIGINT; calls in flight are answered."""
    repository = Repository(settings.models)
    repository.load()
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_TENSOR_BYTES),
            ("grpc.max_send_message_length", MAX_TENSOR_BYTES),
            ("grpc.so_reuseport", 0),
        ]
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(repository), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(repository), server)
    server.add_insecure_port(settings.address)
    await server.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    engines = sorted({model.engine for model in settings.models})
    print(f"serving {', '.join(repository.names)} with {', '.join(engines)} on {settings.address}", flush=True)
    lifeline.ready()
    await stop.wait()
    await server.stop(settings.grace)
    repository.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m visionserve.inference.model_server")
    parser.add_argument("settings", type=Path, help="JSON file of ServerSettings")
    options = parser.parse_args(arguments)
    lifeline = Lifeline.from_environment()
    try:
        asyncio.run(serve(ServerSettings.model_validate_json(options.settings.read_bytes()), lifeline))
    except VisionserveError as error:
        print(f"error: {error}", flush=True)
        lifeline.failed(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
