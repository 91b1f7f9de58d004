from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from visionserve.inference.batcher import Batcher
from visionserve.inference.engine import DEFAULT_SIGNATURE, Arrays
from visionserve.inference.engines import load_engine
from visionserve.inference.saved_model import find_version


class ModelSettings(BaseModel):
    """One model of a server. `path`: a folder as TensorFlow Serving lays it out; `batch_interval`: seconds."""

    name: str
    path: Path
    signature_key: str = DEFAULT_SIGNATURE
    engine: str = "null"
    threads: int = 1
    max_batch_size: int | None = None
    batch_interval: float = 0.0


class ServedModel:
    """A loaded version of a model, its engine warmed up, behind a batcher."""

    def __init__(self, settings: ModelSettings) -> None:
        self.name = settings.name
        self.version, folder = (1, settings.path) if settings.engine == "null" else find_version(settings.path)
        self.engine = load_engine(settings.engine, folder, settings.signature_key, settings.threads)
        self._executor = ThreadPoolExecutor(self.engine.slots, thread_name_prefix=f"engine-{self.name}")
        self._batcher = Batcher(self.engine, self._executor, settings.max_batch_size, settings.batch_interval)

    def warm_up(self) -> None:
        """One inference of a batch of one, so that the first request does not pay for lazy set-up."""
        inputs = {}
        for name, spec in self.engine.inputs.items():
            if spec.dtype.kind in "OSU":
                return
            inputs[name] = np.zeros([1 if size == -1 else size for size in spec.shape], spec.dtype)
        self._executor.submit(self.engine.infer, inputs).result()

    def check(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Raises ValueError, one sentence, where inputs do not fit the signature."""
        wanted = self.engine.inputs
        if inputs.keys() != wanted.keys():
            raise ValueError(f"Model {self.name} takes the inputs {sorted(wanted)}, not {sorted(inputs)}.")
        rows = set()
        for name, spec in wanted.items():
            array = inputs[name]
            if array.dtype != spec.dtype:
                raise ValueError(f"Input {name} of model {self.name} is {spec.dtype}, not {array.dtype}.")
            if not spec.accepts(array):
                raise ValueError(
                    f"Input {name} of model {self.name} has the shape {list(spec.shape)}, not {list(array.shape)}."
                )
            if array.ndim:
                rows.add(array.shape[0])
        if len(rows) > 1 or 0 in rows:
            raise ValueError(f"The inputs of model {self.name} need one batch size of at least 1, not {sorted(rows)}.")

    async def infer(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """inputs: name -> array [N, ...]. Raises ValueError where they do not fit, InferenceError from the engine."""
        self.check(inputs)
        return await self._batcher.infer(inputs)

    def close(self) -> None:
        self._executor.shutdown(wait=True)
        self.engine.close()
