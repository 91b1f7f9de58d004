"""The model server with a fake engine, whose process dies as soon as it sees an image that begins with 13."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from visionserve.inference import served_model
from visionserve.inference.model_server import main
from visionserve.inference.null_engine import NullEngine


class DeadlyEngine(NullEngine):
    """Slow, so that requests meet in its queue."""

    def infer(self, inputs):
        firsts = inputs["input"][:, 0, 0, 0]
        with open(Path(sys.argv[1]).with_name("batches"), "a") as file:
            file.write(" ".join(map(str, firsts)) + "\n")
        time.sleep(0.05)
        if (firsts == 13).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return {"output": np.repeat(firsts[:, None], 1000, axis=1).astype(np.float32)}


served_model.load_engine = lambda *arguments: DeadlyEngine()
raise SystemExit(main())
