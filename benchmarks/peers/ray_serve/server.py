import asyncio
import os
import sys

import numpy as np
import ray
from classifier import decode, load_engine, top5
from ray import serve
from starlette.requests import Request

BATCH = int(os.environ["BATCH"])


@serve.deployment(
    num_replicas=int(os.environ["REPLICAS"]), max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5}
)
class Classifier:
    def __init__(self) -> None:
        self.engine = load_engine()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.01)
    async def infer(self, images: list[np.ndarray]) -> list[np.ndarray]:
        return list(await asyncio.to_thread(self.engine, np.stack(images)))

    async def __call__(self, request: Request) -> list[str]:
        image = await asyncio.to_thread(decode, (await request.json())["img"])
        if BATCH > 1:
            return top5(await self.infer(image))
        return top5((await asyncio.to_thread(self.engine, image[np.newaxis]))[0])


if __name__ == "__main__":
    ray.init(include_dashboard=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False}
    )
    serve.run(Classifier.bind(), blocking=True)
