from pathlib import Path
from typing import Any

import numpy as np

from visionserve.errors import ModelError
from visionserve.models.builds.manifest import Signature, Tensor
from visionserve.models.tensorflow import import_tensorflow

DEFAULT = "serving_default"


class LoadedSignature:
    """The signature serving_default of a SavedModel, with one input and one output, loaded by TensorFlow.

    Raises ModelError where the folder is not such a model, or needs what this TensorFlow does not have.
    """

    def __init__(self, folder: Path) -> None:
        tensorflow = import_tensorflow()
        try:
            # Held, for a signature dies with its model.
            self._loaded = tensorflow.saved_model.load(str(folder))
            self._function = self._loaded.signatures[DEFAULT]
            [self._input] = self._function.structured_input_signature[1]
            [self._output] = self._function.structured_outputs
        except (OSError, KeyError, ValueError, tensorflow.errors.OpError) as error:
            reason = str(error).partition("\n")[0]
            raise ModelError(f"{folder} cannot be loaded as a model with one input and output: {reason}") from error

    def __call__(self, batch: Any) -> Any:
        """A tensor [N, ...] -> a tensor [N, ...]."""
        return self._function(**{self._input: batch})[self._output]

    def answers(self, inputs: np.ndarray, batch_size: int) -> np.ndarray:
        """All of `inputs` [N, ...] in batches -> [N, ...]. Raises ModelError where the model fails on a batch."""
        tensorflow = import_tensorflow()
        batches = (inputs[start : start + batch_size] for start in range(0, len(inputs), batch_size))
        try:
            return np.concatenate([self(tensorflow.constant(batch)).numpy() for batch in batches])
        except tensorflow.errors.OpError as error:
            reason = error.message.partition("\n")[0]
            raise ModelError(f"in batches of {batch_size}, the model fails: {reason}") from error

    @property
    def signature(self) -> Signature:
        def tensors(specifications: Any) -> list[Tensor]:
            return [
                Tensor(name=name, dtype=specification.dtype.name, shape=specification.shape.as_list())
                for name, specification in specifications.items()
            ]

        inputs = tensors(self._function.structured_input_signature[1])
        return Signature(name=DEFAULT, inputs=inputs, outputs=tensors(self._function.structured_outputs))
