import os
import sys

import litserve as ls
import numpy as np
from classifier import decode, load_engine, top5

BATCH = int(os.environ["BATCH"])


class Classifier(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.engine = load_engine()

    def decode_request(self, request: dict) -> np.ndarray:
        return decode(request["img"])

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.engine(x) if BATCH > 1 else self.engine(x[np.newaxis])[0]

    def encode_response(self, output: np.ndarray) -> list[str]:
        return top5(output)


if __name__ == "__main__":
    api = Classifier(max_batch_size=BATCH, batch_timeout=0.01 if BATCH > 1 else 0)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]))
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=int(os.environ["API_SERVERS"]),
        log_level="warning",
        generate_client_file=False,
    )
