import os
import sys

import numpy as np
from classifier import decode, load_engine, top5
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

BATCH = int(os.environ["BATCH"])


class Classifier:
    def __init__(self) -> None:
        self.engine = load_engine()

    @batch
    def __call__(self, img: np.ndarray) -> dict[str, np.ndarray]:
        images = np.stack([decode(row[0]) for row in img])
        return {"labels": np.array([[label.encode() for label in top5(row)] for row in self.engine(images)])}


if __name__ == "__main__":
    port = int(sys.argv[1])
    config = TritonConfig(http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="classifier",
            infer_func=[Classifier() for _ in range(int(os.environ["WORKERS"]))],
            inputs=[Tensor(name="img", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="labels", dtype=bytes, shape=(5,))],
            config=ModelConfig(max_batch_size=BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=10_000)),
            strict=True,
        )
        triton.serve()
