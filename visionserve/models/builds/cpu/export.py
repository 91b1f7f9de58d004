import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

import visionserve
from visionserve.errors import ModelError
from visionserve.models.builds.cpu.compatibility import check_loadable_by_old_tensorflow
from visionserve.models.builds.cpu.folding import fold_batch_norm
from visionserve.models.builds.cpu.keras_check import check_against_keras
from visionserve.models.builds.cpu.saved_model import IMAGE_BYTES, SIGNATURE, write_saved_model
from visionserve.models.builds.folder import build_written_atomically, size
from visionserve.models.builds.manifest import Manifest, WeightsOrigin, file_hashes, read_manifest
from visionserve.models.tensorflow import import_keras, import_tensorflow
from visionserve.models.weights import Weights
from visionserve.vision.labels import IMAGENET_CLASSES, load_classes

# To be raised with every change of what export_cpu writes for the same weights.
RECIPE = 3


@dataclass(frozen=True)
class Exported:
    """`labels`: the sample's five likeliest (label, probability). `difference`: the largest to what Keras gives."""

    folder: Path
    labels: list[tuple[str, float]]
    difference: float

    @property
    def size(self) -> int:
        """In bytes."""
        return size(self.folder)


def is_exported(weights: Weights, folder: Path) -> bool:
    """Whether `folder` holds, whole, what export_cpu would write there for `weights`."""
    try:
        manifest = read_manifest(folder)
    except ModelError:
        return False
    return (
        (manifest.model, manifest.target, manifest.recipe) == ("resnet50", "cpu", RECIPE)
        and manifest.weights.sha256 == weights.sha256
        and manifest.weights.epsilon == weights.epsilon
        and manifest.versions.get("visionserve") == visionserve.__version__
        and manifest.describes(folder)
    )


def export_cpu(weights: Weights, folder: Path, sample: np.ndarray) -> Exported:
    """Writes ResNet50 as a SavedModel whose `serving_default` takes uint8 RGB [N, 224, 224, 3] as `input`, N being
    open, and gives float32 probabilities [N, 1000] as `output`.

    Its `image_bytes` takes encoded JPEG or PNG, string [N], as `image_bytes`, the name that TensorFlow's official
    ResNet gives it (image_bytes_serving_input_fn), and gives as that one does `classes`, int64 [N], 1..1000, and
    `probabilities`, float32 [N, 1001], both with a background before ImageNet's classes.
    BatchNormalization is folded into the convolutions, the weights are constants, and TensorFlow 1.15 and 2.3 have
    every operation. Before it takes its place at `folder` it is loaded back and must give for `sample`, uint8 RGB
    [224, 224, 3], what Keras gives: else ModelError, and what was at `folder` stays. UsageError where `folder` is
    something else.
    """
    with build_written_atomically(folder) as work:
        classes = load_classes(IMAGENET_CLASSES)
        write_saved_model(fold_batch_norm(weights), work)
        check_loadable_by_old_tensorflow(work)
        labels, difference = check_against_keras(work, weights, sample[np.newaxis], classes)
        _manifest(weights, work, classes).write(work)
    return Exported(folder, labels, difference)


def _manifest(weights: Weights, folder: Path, classes: list[str]) -> Manifest:
    tensorflow, keras = import_tensorflow(), import_keras()
    return Manifest(
        model="resnet50",
        target="cpu",
        recipe=RECIPE,
        created=datetime.now(timezone.utc),
        weights=WeightsOrigin(
            source=weights.source,
            sha256=weights.sha256,
            epsilon=weights.epsilon,
            parameters=weights.parameters,
        ),
        versions={
            "visionserve": visionserve.__version__,
            "tensorflow": tensorflow.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
        },
        signatures=[SIGNATURE, IMAGE_BYTES],
        files=file_hashes(folder),
        classes=classes,
    )
