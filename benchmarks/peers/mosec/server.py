import os

import numpy as np
from classifier import decode, load_engine, top5
from mosec import Server, Worker

BATCH = int(os.environ["BATCH"])


class Preprocess(Worker):
    def forward(self, data: dict) -> np.ndarray:
        return decode(data["img"])


class Inference(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.engine = load_engine()

    def forward(self, data: np.ndarray) -> list[str]:
        return top5(self.engine(data[np.newaxis])[0])


class BatchInference(Inference):
    def forward(self, data: list[np.ndarray]) -> list[list[str]]:
        return [top5(row) for row in self.engine(np.stack(data))]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Preprocess, num=int(os.environ["PREPROCESS"]))
    if BATCH > 1:
        server.append_worker(BatchInference, max_batch_size=BATCH, max_wait_time=10)
    else:
        server.append_worker(Inference)
    server.run()
