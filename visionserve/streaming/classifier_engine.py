import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from visionserve.errors import InferenceError, ModelError
from visionserve.inference.engine import Arrays, Signature, TensorSpec
from visionserve.inference.signature_key import DEFAULT_SIGNATURE
from visionserve.streaming.classifier_graph import openvino, reason

INPUT, OUTPUT = "input", "output"


class ClassifierEngine:
    """An inference.engine.Engine with `slots` infer requests at once, all together on `threads` cores: `input`, uint8
    RGB [N, H, W, 3] -> `output`, float32 probabilities [N, K], whatever the model calls them.

    What comes while all are busy waits for its turn.
    """

    name = "openvino"
    signature_key = DEFAULT_SIGNATURE

    def __init__(self, graph: Any, slots: int, threads: int) -> None:
        """`graph`: as read_classifier gives it. Takes seconds. Raises ModelError."""
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": slots,
            "PERFORMANCE_HINT": "LATENCY" if slots == 1 else "THROUGHPUT",
            # Every process pins its threads from the first core on: two tasks of one thread would share that core.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            model = openvino().Core().compile_model(graph, "CPU", options)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot compile the model: {reason(error)}") from error
        self.slots = slots
        self.signature = Signature({INPUT: _spec(model.input(), np.uint8)}, {OUTPUT: _spec(model.output(), np.float32)})
        self._free = [model.create_infer_request() for _ in range(slots)]
        self._closed = False
        self._changed = threading.Condition()

    def infer(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """See Engine. Raises InferenceError where OpenVINO fails, or after close."""
        with self._request() as request:
            try:
                results = request.infer([inputs[INPUT]], share_inputs=True, share_outputs=True)
            except RuntimeError as error:
                raise InferenceError(f"OpenVINO failed on a batch of {len(inputs[INPUT])}: {reason(error)}") from error
            # The next batch overwrites its own.
            return {OUTPUT: np.array(results[0], np.float32)}

    def close(self) -> None:
        """Waits for what runs, and frees the model's memory."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._free) == self.slots)
            del self._free[:]
            self.slots = 0

    @contextmanager
    def _request(self) -> Iterator[Any]:
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._closed)
            if self._closed:
                raise InferenceError("The model was released while the batch waited for it.")
            request = self._free.pop()
        try:
            yield request
        finally:
            with self._changed:
                self._free.append(request)
                self._changed.notify_all()


def _spec(port: Any, dtype: type) -> TensorSpec:
    shape = tuple(-1 if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
    return TensorSpec(np.dtype(dtype), shape)
