"""Calls to a real gRPC server of a fake engine: one whose deadline passes, one whose client cancels it."""

import asyncio
import sys
import threading
from pathlib import Path

import grpc
import numpy as np
from ovmsclient.tfs_compat.protos.tensorflow.core.framework.types_pb2 import DataType
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis import prediction_service_pb2_grpc

from tests.inference.repositories import BLACK, predict_request
from visionserve.inference import served_model
from visionserve.inference.model_settings import ModelSettings
from visionserve.inference.null_engine import NullEngine
from visionserve.inference.prediction_service import PredictionService
from visionserve.inference.repository import Repository


class SteppedEngine(NullEngine):
    """A fake: runs one batch each time the test lets it, and keeps what was in it."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[int]] = []
        self._steps = threading.Semaphore(0)

    def step(self, times: int = 1) -> None:
        self._steps.release(times)

    def infer(self, inputs):
        self.batches.append(inputs["input"][:, 0, 0, 0].tolist())
        assert self._steps.acquire(timeout=60)
        return super().infer(inputs)


class CountedService(PredictionService):
    open = 0

    async def Predict(self, request, context):
        self.open += 1
        try:
            return await super().Predict(request, context)
        finally:
            self.open -= 1


async def until(condition):
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true")


def numbered(number):
    return predict_request("fake", input=np.full_like(BLACK, number))


async def main(folder: Path):
    engine = SteppedEngine()
    served_model.load_engine = lambda *arguments: engine
    repository = Repository([ModelSettings(name="fake", path=folder, max_batch_size=1)])
    engine.step(2)  # for the warm-up
    repository.load()
    engine.batches.clear()
    service = CountedService(repository)
    server = grpc.aio.server()
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    server.add_insecure_port(f"unix:{folder / 'server.sock'}")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{folder / 'server.sock'}") as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        first = predict(numbered(1))
        await until(lambda: engine.batches == [[1]])
        late, gone = predict(numbered(2), timeout=5), predict(numbered(3))
        kept = predict(numbered(4))
        await until(lambda: service.open == 4)
        gone.cancel()
        [failed] = await asyncio.gather(late, return_exceptions=True)
        assert failed.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: service.open == 2)
        engine.step(2)
        for call in (first, kept):
            assert (await call).outputs["output"].dtype == DataType.DT_FLOAT
        assert engine.batches == [[1], [4]]
        assert gone.cancelled()
        await until(lambda: service.open == 0)
        # It ends only when no request is in flight any more.
        await asyncio.wait_for(repository.find("fake").retire(), 60)
    await server.stop(None)
    print(f"batches {engine.batches}, the model retired")


asyncio.run(main(Path(sys.argv[1])))
