import logging
import os
import re
from pathlib import Path

import numpy as np

from visionserve.errors import InferenceError, ModelError
from visionserve.inference.engine import Arrays, Signature, TensorSpec

log = logging.getLogger("visionserve")


class TensorFlowEngine:
    """A SavedModel's signature in TensorFlow's own runtime, on `threads` cores."""

    name = "tensorflow"
    slots = 1

    def __init__(self, folder: Path, signature_key: str, threads: int) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:
            log.warning(
                "TensorFlow was in use in this process before: it keeps its threads and does not take %d", threads
            )
        self._tf = tf
        self.signature_key = signature_key
        try:
            self._model = tf.saved_model.load(str(folder))
        except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
            raise ModelError(_reason(folder, error)) from error
        signatures = self._model.signatures
        if signature_key not in signatures:
            raise ModelError(
                f"{folder} has no signature {signature_key!r}: "
                f"set signature_key to one of {', '.join(sorted(signatures))}."
            )
        self._infer = signatures[signature_key]
        self.signature = Signature(
            {name: _spec(spec) for name, spec in self._infer.structured_input_signature[1].items()},
            {name: _spec(spec) for name, spec in self._infer.structured_outputs.items()},
        )

    def infer(self, inputs: Arrays) -> dict[str, np.ndarray]:
        try:
            outputs = self._infer(**{name: self._tf.constant(array) for name, array in inputs.items()})
        except self._tf.errors.OpError as error:
            raise InferenceError(f"TensorFlow failed on the batch: {error.message}") from error
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def close(self) -> None:
        del self._infer, self._model


def _reason(folder: Path, error: Exception) -> str:
    if unknown := re.match(r"Op type not registered '(\w+)'", str(error)):
        return (
            f"{folder} is built for other hardware, with an operation {unknown[1]} that this TensorFlow does not have: "
            f"serve it by a TensorFlow Serving that does (--tensorflow-serving HOST:PORT), or use --compute cpu."
        )
    return f"TensorFlow cannot load {folder}: {str(error).rstrip('.')}."


def _spec(spec) -> TensorSpec:  # type: ignore[no-untyped-def]
    return TensorSpec(np.dtype(spec.dtype.as_numpy_dtype), tuple(-1 if n is None else n for n in spec.shape.as_list()))
