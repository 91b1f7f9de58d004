from pathlib import Path
from typing import Any

import numpy as np

from visionserve import quiet_openvino
from visionserve.errors import MissingError, ModelError, install_command

BATCH = 8


def import_openvino() -> Any:
    """openvino. Raises MissingError where it is not installed."""
    try:
        return quiet_openvino.import_openvino()
    except ImportError as error:
        raise MissingError(
            f"this export needs OpenVINO, which is not installed ({error}): run {install_command('openvino')}"
        ) from error


def read_model(path: Path) -> Any:
    """A SavedModel's folder or a model.xml, as an openvino.Model. Raises ModelError.

    Not by openvino.convert_model, which reads the same and reports on its use.
    """
    openvino = import_openvino()
    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot read {path}: {_reason(error)}") from error


class CompiledModel:
    """A model with one input and one output, compiled for `threads` cores of this machine's CPU as the engine
    openvino compiles it: what is not quantized is computed in fp32.

    Raises ModelError where OpenVINO cannot compile it.
    """

    def __init__(self, model: Any, threads: int) -> None:
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        try:
            self._request = import_openvino().Core().compile_model(model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot compile the model: {_reason(error)}") from error

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """uint8 RGB [N, 224, 224, 3] -> probabilities [N, 1000], which the next call overwrites."""
        try:
            return self._request.infer([pictures], share_inputs=True, share_outputs=True)[0]
        except RuntimeError as error:
            raise ModelError(f"OpenVINO fails on a batch of {len(pictures)}: {_reason(error)}") from error

    def answers(self, pictures: np.ndarray) -> np.ndarray:
        """As a call, in batches; for any number of pictures, and to keep."""
        batches = (pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH))
        return np.concatenate([self(batch).copy() for batch in batches])


def _reason(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]
