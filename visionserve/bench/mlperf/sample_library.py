from collections.abc import Iterable, Sequence
from pathlib import Path

from visionserve.bench.mlperf.settings import Image, ScenarioSettings

# What MLPerf asks for with ResNet50, unless that many images are too large.
PERFORMANCE_SAMPLES = 1024
MAX_BYTES = 1 << 30


class SampleLibrary:
    """LoadGen's query sample library: the images by their index, read and encoded while LoadGen wants them loaded.

    LoadGen loads at most `performance_count` different ones at a time.
    """

    def __init__(self, settings: ScenarioSettings) -> None:
        self._images = settings.images
        self._workload = settings.workload
        largest = max(map(_size, self._images))
        self.performance_count = max(1, min(len(self._images), PERFORMANCE_SAMPLES, MAX_BYTES // max(1, largest)))
        self._loaded: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._images)

    def load(self, indices: Iterable[int]) -> None:
        """Raises OSError when an image cannot be read. LoadGen repeats indices to fill up a query."""
        for index in set(indices):
            image = _read(self._images[index])
            self._loaded[index] = image if self._workload.batch_size > 1 else self._workload.request([image])

    def unload(self, indices: Iterable[int]) -> None:
        for index in set(indices):
            del self._loaded[index]

    def request(self, indices: Sequence[int]) -> bytes:
        """The bytes on the wire of one request of these loaded samples."""
        if self._workload.batch_size == 1:
            return self._loaded[indices[0]]
        return self._workload.request([self._loaded[index] for index in indices])


def _size(image: Image) -> int:
    return image.stat().st_size if isinstance(image, Path) else len(image)


def _read(image: Image) -> bytes:
    return image.read_bytes() if isinstance(image, Path) else image
