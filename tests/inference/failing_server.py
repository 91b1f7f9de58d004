"""The model server with a fake engine that raises, as an engine might, where an image begins with 13."""

import numpy as np

from visionserve.errors import InferenceError
from visionserve.inference import served_model
from visionserve.inference.model_server import main
from visionserve.inference.null_engine import NullEngine


class FailingEngine(NullEngine):
    def infer(self, inputs):
        firsts = inputs["input"][:, 0, 0, 0]
        if (firsts == 13).any():
            raise InferenceError("The fake engine failed on the batch.")
        if (firsts == 14).any():
            raise ZeroDivisionError
        return {"output": np.repeat(firsts[:, None], 1000, axis=1).astype(np.float32)}


served_model.load_engine = lambda *arguments: FailingEngine()
raise SystemExit(main())
