import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import numpy as np
from ovmsclient.tfs_compat.protos.tensorflow.core.framework.types_pb2 import DataType

from visionserve.errors import ModelUnavailableError
from visionserve.inference import tensors
from visionserve.inference.client import Signatures, pick_model, version_number
from visionserve.inference.model_settings import ModelSettings
from visionserve.inference.repository import Repository
from visionserve.inference.tracing import end_decode


class BatchingClient:
    """Cortex's TensorFlowClient on models in this process: what several threads ask at once is joined into batches."""

    def __init__(self, models: Sequence[ModelSettings], timeout: float = 60.0) -> None:
        """Loads the models. Raises ModelError for one that does not load."""
        self._repository = Repository(models)
        self._repository.load()
        self._timeout = timeout
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="batches", daemon=True).start()

    def predict(
        self, model_input: Mapping[str, Any], model_name: str | None = None, model_version: str = "latest"
    ) -> dict[str, np.ndarray]:
        """As ServingClient.predict; to be called from any thread but an event loop's."""
        name = pick_model(self._repository.names, model_name)
        model = self._repository.find(name, version_number(model_version))
        inputs = {key: np.asarray(value) for key, value in model_input.items()}
        end_decode()
        answer = asyncio.run_coroutine_threadsafe(model.infer(inputs), self._loop)
        try:
            return answer.result(self._timeout)
        except FutureTimeoutError:
            answer.cancel()
            raise ModelUnavailableError(f"Model {name} gave no answer within {self._timeout:g} s.") from None

    def available(self) -> bool:
        return True

    def input_signatures(self) -> Signatures:
        """As ServingClient.input_signatures."""
        signatures: Signatures = {}
        for name in self._repository.names:
            model = self._repository.find(name)
            inputs = {
                key: {
                    "shape": list(spec.shape),
                    "type": DataType.Name(tensors.data_type(spec.dtype)).removeprefix("DT_").lower(),
                }
                for key, spec in model.signature().inputs.items()
            }
            signatures[name] = {"signature_key": model.default_signature, "input_signatures": inputs}
        return signatures
