import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

import visionserve
from visionserve.errors import ModelError
from visionserve.models.builds.cpu.compatibility import check_loadable_by_old_tensorflow
from visionserve.models.builds.detector.check import FoundObject, check_against_network
from visionserve.models.builds.detector.coco import coco_classes
from visionserve.models.builds.detector.network import SIDE, Network
from visionserve.models.builds.detector.saved_model import SIGNATURE, write_saved_model
from visionserve.models.builds.detector.weights import DetectorWeights
from visionserve.models.builds.folder import build_written_atomically, size
from visionserve.models.builds.manifest import Manifest, WeightsOrigin, file_hashes, read_manifest
from visionserve.models.tensorflow import import_tensorflow

MODEL, TARGET = "centernet-mobilenetv3", "cpu"
# To be raised with every change of what export_detector writes for the same weights.
RECIPE = 1


@dataclass(frozen=True)
class Exported:
    """`objects`: those found in the sample, the likeliest first."""

    folder: Path
    objects: list[FoundObject]

    @property
    def size(self) -> int:
        """In bytes."""
        return size(self.folder)


def is_exported(weights: DetectorWeights, folder: Path) -> bool:
    """Whether `folder` holds, whole, what export_detector would write there for `weights`."""
    try:
        manifest = read_manifest(folder)
    except ModelError:
        return False
    return (
        (manifest.model, manifest.target, manifest.recipe) == (MODEL, TARGET, RECIPE)
        and manifest.weights.sha256 == weights.sha256
        and manifest.versions.get("visionserve") == visionserve.__version__
        and manifest.describes(folder)
    )


def export_detector(weights: DetectorWeights, folder: Path, sample: np.ndarray) -> Exported:
    """Writes the detector as a SavedModel with the names of TensorFlow's detection model zoo.

    Its `serving_default` takes one picture of any size as `input_tensor`, uint8 RGB [1, H, W, 3], and gives, float32,
    `detection_boxes` [1, 100, 4] = ymin, xmin, ymax, xmax in 0..1 of the picture, `detection_scores` [1, 100] falling,
    `detection_classes` [1, 100], COCO's category ids 1..90, and `num_detections` [1]. A larger picture is scaled down
    to 512 pixels without a filter: hand in one that was shrunk by area.
    Its operations are those of TensorFlow 1.15 and 2.3, and OpenVINO runs it as it is. Before it takes its place at
    `folder` it is loaded back and must find in `sample`, uint8 RGB [H, W, 3], what its network's own graph finds: else
    ModelError, and what was at `folder` stays. WeightsError where the weights are another network's, UsageError where
    `folder` is something else.
    """
    with build_written_atomically(folder) as work:
        network = Network(weights)
        write_saved_model(network, work)
        check_loadable_by_old_tensorflow(work)
        objects = check_against_network(work, network, sample)
        _manifest(weights, work).write(work)
    return Exported(folder, objects)


def _manifest(weights: DetectorWeights, folder: Path) -> Manifest:
    names = coco_classes()
    return Manifest(
        model=MODEL,
        target=TARGET,
        recipe=RECIPE,
        created=datetime.now(timezone.utc),
        weights=WeightsOrigin(source=weights.source, sha256=weights.sha256, parameters=weights.parameters),
        versions={
            "visionserve": visionserve.__version__,
            "tensorflow": import_tensorflow().__version__,
            "python": platform.python_version(),
        },
        # Of the square that the network sees: who hands in more pixels has them scaled away.
        settings={"side": SIDE},
        signatures=[SIGNATURE],
        files=file_hashes(folder),
        # By category id; COCO has ids without a class.
        classes=[names.get(number, "") for number in range(max(names) + 1)],
    )
