import numpy as np

from visionserve.inference.engine import Arrays, Signature, TensorSpec
from visionserve.inference.signature_key import DEFAULT_SIGNATURE


class NullEngine:
    """Answers at once with constant probabilities, so that everything around the inference can be measured."""

    name = "null"
    signature_key = DEFAULT_SIGNATURE
    slots = 1

    def __init__(self) -> None:
        self.signature = Signature(
            {"input": TensorSpec(np.dtype(np.uint8), (-1, 224, 224, 3))},
            {"output": TensorSpec(np.dtype(np.float32), (-1, 1000))},
        )

    def infer(self, inputs: Arrays) -> dict[str, np.ndarray]:
        return {"output": np.full((len(inputs["input"]), 1000), 1e-3, np.float32)}

    def close(self) -> None:
        pass
