import os

import bentoml
import numpy as np
from classifier import decode, load_engine, top5


@bentoml.service(
    workers=int(os.environ["WORKERS"]),
    threads=int(os.environ["THREADS"]),
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
)
class Classifier:
    def __init__(self) -> None:
        self.engine = load_engine()

    @bentoml.api(route="/")
    def classify(self, img: str) -> list[str]:
        return top5(self.engine(np.stack([decode(img)]))[0])
