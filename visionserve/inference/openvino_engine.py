import threading
from pathlib import Path

import numpy as np

from visionserve.errors import InferenceError, ModelError
from visionserve.inference.engine import DEFAULT_SIGNATURE, Arrays, Signature, TensorSpec


class OpenVinoEngine:
    """A SavedModel read by OpenVINO's TensorFlow frontend, on `threads` cores."""

    name = "openvino"
    signature_key = DEFAULT_SIGNATURE
    slots = 1

    def __init__(self, folder: Path, threads: int) -> None:
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(folder)
            self._model = core.compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": 1,
                    "INFERENCE_NUM_THREADS": threads,
                    "INFERENCE_PRECISION_HINT": "f32",
                },
            )
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load {folder}: {str(error).strip().splitlines()[-1]}") from error
        self.signature = Signature(
            {port.get_any_name(): _spec(port) for port in self._model.inputs},
            {port.get_any_name(): _spec(port) for port in self._model.outputs},
        )
        self._local = threading.local()

    def infer(self, inputs: Arrays) -> dict[str, np.ndarray]:
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._model.create_infer_request()
        try:
            results = request.infer(dict(inputs), share_inputs=True)
        except RuntimeError as error:
            raise InferenceError(f"OpenVINO failed on the batch: {str(error).strip().splitlines()[-1]}") from error
        return {name: np.array(results[name]) for name in self.signature.outputs}

    def close(self) -> None:
        del self._model


def _spec(port) -> TensorSpec:  # type: ignore[no-untyped-def]
    shape = tuple(-1 if dimension.is_dynamic else dimension.get_length() for dimension in port.get_partial_shape())
    return TensorSpec(port.get_element_type().to_dtype(), shape)
