import threading
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np

from visionserve.cores import available_cores
from visionserve.errors import InferenceError, ModelError
from visionserve.inference.engine import Arrays, Signature, TensorSpec
from visionserve.inference.model_folder import OPENVINO_GRAPH, is_openvino_model
from visionserve.inference.signature_key import DEFAULT_SIGNATURE
from visionserve.quiet_openvino import import_openvino

# Fewer cores than this are kept busy by one inference at a time.
CORES_FOR_STREAMS = 8


class OpenVinoEngine:
    """A model in OpenVINO's own format, or a SavedModel that its TensorFlow frontend reads, on `threads` cores.

    It is compiled for latency: all cores work on one batch. On 8 cores or more it is compiled for throughput too
    (OpenVINO's streams: several batches at once on a few cores each), and what arrives while a batch runs goes there,
    so that a lone request is answered soonest and many are answered at the highest rate.
    """

    name = "openvino"
    signature_key = DEFAULT_SIGNATURE

    def __init__(self, folder: Path, threads: int) -> None:
        core = import_openvino().Core()
        try:
            model = core.read_model(folder / OPENVINO_GRAPH if is_openvino_model(folder) else folder)
            compiled = _compile(core, model, threads, {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1})
            self._alone = _Requests(compiled, 1)
            self._together = None
            if threads >= CORES_FOR_STREAMS:
                streams = _compile(core, model, threads, {"PERFORMANCE_HINT": "THROUGHPUT"})
                self._together = _Requests(streams, streams.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load {folder}: {str(error).strip().splitlines()[-1]}") from error
        self.slots = self._together.count if self._together else 1
        self.signature = Signature(
            {port.get_any_name(): _spec(port) for port in compiled.inputs},
            # A tensor that a model gives under several names is one port with all of them.
            {name: _spec(port) for port in compiled.outputs for name in sorted(port.get_names())},
        )
        self._lone = threading.Lock()

    def infer(self, inputs: Arrays) -> dict[str, np.ndarray]:
        if self._together is None:
            return self._alone.infer(inputs, self.signature.outputs)
        if self._lone.acquire(blocking=False):
            try:
                return self._alone.infer(inputs, self.signature.outputs)
            finally:
                self._lone.release()
        return self._together.infer(inputs, self.signature.outputs)

    def close(self) -> None:
        del self._alone, self._together


class _Requests:
    """`count` infer requests of a compiled model, each with buffers of its own, for as many threads at once."""

    def __init__(self, model: Any, count: int) -> None:
        self.count = count
        self._free: LifoQueue[Any] = LifoQueue()
        for _ in range(count):
            self._free.put(model.create_infer_request())

    def infer(self, inputs: Arrays, names: Any) -> dict[str, np.ndarray]:
        request = self._free.get()
        try:
            results = request.infer(dict(inputs), share_inputs=True)
            return {name: np.array(results[name]) for name in names}
        except RuntimeError as error:
            raise InferenceError(f"OpenVINO failed on the batch: {str(error).strip().splitlines()[-1]}") from error
        finally:
            self._free.put(request)


def _compile(core: Any, model: Any, threads: int, hints: dict[str, Any]) -> Any:
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        # Every process pins from the first core on: replicas on one machine would share a few and leave others idle.
        # One that has all cores gains by it.
        "ENABLE_CPU_PINNING": threads >= available_cores(),
    }
    return core.compile_model(model, "CPU", {**options, **hints})


def _spec(port: Any) -> TensorSpec:
    shape = tuple(-1 if dimension.is_dynamic else dimension.get_length() for dimension in port.get_partial_shape())
    return TensorSpec(port.get_element_type().to_dtype(), shape)
