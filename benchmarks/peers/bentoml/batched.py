import asyncio
import os

import bentoml
import numpy as np
from classifier import decode, load_engine, top5


@bentoml.service(traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Model:
    def __init__(self) -> None:
        self.engine = load_engine()

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=10_000)
    def infer(self, images: np.ndarray) -> np.ndarray:
        return self.engine(images)


@bentoml.service(workers=int(os.environ["WORKERS"]), traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Classifier:
    model = bentoml.depends(Model)

    @bentoml.api(route="/")
    async def classify(self, img: str) -> list[str]:
        image = await asyncio.to_thread(decode, img)
        return top5((await self.model.to_async.infer(image[np.newaxis]))[0])
