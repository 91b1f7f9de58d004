import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from visionserve.errors import VisionserveError
from visionserve.services.function.classifier import Classifier
from visionserve.services.function.notification import Record
from visionserve.services.function.settings import Settings
from visionserve.services.function.storage import ObjectError, Storage

# Objects at once, each up to MAX_IMAGE_BYTES in memory: enough to keep the engine busy behind a slow S3.
OBJECTS = 8

log = logging.getLogger("visionserve")


@dataclass(frozen=True)
class Outcome:
    """What came of one record: `top` holds one name, or none and `message` says why. `retry`: it may go well later."""

    top: list[str] = field(default_factory=list)
    message: str | None = None
    retry: bool = False


class Objects:
    """Records of notifications -> their objects, fetched and classified."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._storage = Storage(settings)
        self._threads = ThreadPoolExecutor(OBJECTS, thread_name_prefix="s3")
        self._room = asyncio.Semaphore(OBJECTS)

    async def outcomes(self, records: Sequence[Record], classifier: Classifier) -> list[Outcome]:
        """One for each record, in order."""
        return await asyncio.gather(*(self._outcome(record, classifier) for record in records))

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._storage.close()

    async def _outcome(self, record: Record, classifier: Classifier) -> Outcome:
        name = f"s3://{record.bucket}/{record.key}"
        reason = self._ignored(record)
        if reason:
            log.info("ignored %r: %s", name, reason)
            return Outcome(message=f"{name} is ignored: {reason}.")
        try:
            async with self._room:
                long_name, probability = await self._classify(record, name, classifier)
        except (ObjectError, VisionserveError) as error:
            retry = error.retry if isinstance(error, ObjectError) else error.status >= 500
            log.warning("not classified: %r", str(error))
            return Outcome(message=str(error), retry=retry)
        log.info("classified %r: %s (%.3f)", name, long_name, probability)
        return Outcome([long_name])

    async def _classify(self, record: Record, name: str, classifier: Classifier) -> tuple[str, float]:
        self._storage.check_size(name, record.size)
        fetch = partial(self._storage.get, record.bucket, record.key)
        image = await asyncio.get_running_loop().run_in_executor(self._threads, fetch)
        return await classifier.classify(image, name)

    def _ignored(self, record: Record) -> str | None:
        """Why the record is none of this function's, None where it is."""
        bucket = self._settings.s3_bucket_name
        if not self._settings.takes(record.event_name):
            return f"S3_EVENT_NAME is {self._settings.s3_event_name}, not {record.event_name}"
        if bucket and record.bucket != bucket:
            return f"S3_BUCKET_NAME is {bucket}"
        return None
