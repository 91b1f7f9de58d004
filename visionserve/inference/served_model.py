import asyncio
import time
from functools import partial
from pathlib import Path

import numpy as np

from visionserve.errors import InvalidInputError
from visionserve.inference.batcher import Batcher
from visionserve.inference.casualties import Casualties
from visionserve.inference.engine import Arrays, Signature
from visionserve.inference.engines import load_engine
from visionserve.inference.image_bytes import IMAGE_BYTES, image_bytes_of
from visionserve.inference.metrics import BatchMetrics
from visionserve.inference.model_settings import ModelSettings
from visionserve.inference.time_limit import BatchTimeLimit


class ServedModel:
    """One loaded version of a model, its engine warmed up, behind a batcher. To be used on one event loop."""

    def __init__(
        self, settings: ModelSettings, version: int, folder: Path, casualties: Casualties | None = None
    ) -> None:
        """`folder`: the version's own folder. Takes seconds. Raises ModelError when it does not load."""
        self.name = settings.name
        self.version = version
        self.engine = load_engine(settings.engine, folder, settings.signature_key, settings.threads)
        self.default_signature = self.engine.signature_key
        self.signatures: dict[str, Signature] = {self.engine.signature_key: self.engine.signature}
        self._image_bytes = image_bytes_of(self.engine.signature, settings.threads)
        if self._image_bytes:
            self.signatures[IMAGE_BYTES] = self._image_bytes.signature
        time_limit = BatchTimeLimit()
        self._warm_up(time_limit)
        self._batcher = Batcher(
            self.engine,
            settings.max_batch_size,
            settings.batch_interval,
            name=f"engine-{self.name}-{version}",
            casualties=casualties,
            metrics=BatchMetrics(self.name),
            time_limit=time_limit,
        )
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def infer(self, inputs: Arrays, signature_key: str = "", request_id: str = "") -> dict[str, np.ndarray]:
        """inputs: name -> array [N, ...], gives name -> array [N, ...]; `signature_key`: "" for the default one.

        `request_id`: the same when a request is sent again, "" where that is not known (see Casualties).
        Raises InvalidInputError where the inputs do not fit, InferenceError from the engine.
        """
        self.signature(signature_key).check(inputs)
        self._in_flight += 1
        self._idle.clear()
        try:
            if signature_key == IMAGE_BYTES and self._image_bytes:
                return await self._image_bytes.infer(inputs, partial(self._batcher.infer, request_id=request_id))
            return await self._batcher.infer(inputs, request_id)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    def signature(self, key: str = "") -> Signature:
        """Raises InvalidInputError for a key that the model does not have."""
        key = key or self.default_signature
        if key not in self.signatures:
            known = ", ".join(sorted(self.signatures))
            raise InvalidInputError(f"Model {self.name} has no signature {key!r}: ask for one of {known}.")
        return self.signatures[key]

    async def retire(self) -> None:
        """Waits for the requests in flight, then closes. Nobody may find the model any more."""
        await self._idle.wait()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        if self._image_bytes:
            self._image_bytes.close()
        self._batcher.close()
        self.engine.close()

    def _warm_up(self, time_limit: BatchTimeLimit) -> None:
        """Infers a batch of one, so that the first request does not pay for lazy set-up, and again, for its time."""
        inputs = {}
        for name, spec in self.engine.signature.inputs.items():
            if spec.dtype.kind in "OSU":
                return
            inputs[name] = np.zeros([1 if size == -1 else size for size in spec.shape], spec.dtype)
        for _ in range(2):
            started = time.monotonic()
            self.engine.infer(inputs)
            time_limit.observe(inputs, time.monotonic() - started)
