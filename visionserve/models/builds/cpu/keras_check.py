from pathlib import Path
from typing import Any

import numpy as np

from visionserve.errors import ModelError
from visionserve.models.builds.cpu.saved_model import IMAGE_BYTES, SIGNATURE
from visionserve.models.resnet50 import build_resnet50, classify_with_keras
from visionserve.models.tensorflow import import_tensorflow
from visionserve.models.weights import Weights
from visionserve.vision.labels import top_k

LARGEST_DIFFERENCE = 1e-4


def check_against_keras(
    folder: Path, weights: Weights, pixels: np.ndarray, classes: list[str]
) -> tuple[list[tuple[str, float]], float]:
    """The five likeliest (label, probability) of one image, and the largest difference to what Keras gives for it.

    `folder`: a SavedModel with SIGNATURE and IMAGE_BYTES; `pixels`: uint8 RGB [1, 224, 224, 3].
    Raises ModelError where the two, or the two signatures, do not agree.
    """
    tensorflow = import_tensorflow()
    loaded = tensorflow.saved_model.load(str(folder))
    given = loaded.signatures[SIGNATURE.name](input=tensorflow.constant(pixels))["output"].numpy()
    wanted = classify_with_keras(build_resnet50(weights), pixels)
    difference = float(np.abs(given - wanted).max())
    [labels], [keras_labels] = top_k(given, classes), top_k(wanted, classes)
    # Written so that a NaN fails too.
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"the exported model's probabilities differ from Keras's by {difference:.2g}, so it was discarded"
        )
    if [label for label, _ in labels] != [label for label, _ in keras_labels]:
        raise ModelError(f"the exported model says {labels} where Keras says {keras_labels}, so it was discarded")
    _check_encoded(loaded.signatures[IMAGE_BYTES.name], pixels, given)
    return labels, difference


def _check_encoded(image_bytes: Any, pixels: np.ndarray, wanted: np.ndarray) -> None:
    tensorflow = import_tensorflow()
    # Laid around the crop, this margin is what the signature cuts off again, so that it sees the same pixels.
    margin = (256 - pixels.shape[1]) // 2
    framed = np.pad(pixels, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    given = image_bytes(image_bytes=tensorflow.stack([tensorflow.io.encode_png(image) for image in framed]))
    difference = float(np.abs(given["probabilities"].numpy()[:, 1:] - wanted).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"the exported model's probabilities for the encoded sample differ by {difference:.2g} from those for its "
            f"pixels, so it was discarded"
        )
    if given["classes"].numpy().tolist() != (wanted.argmax(axis=1) + 1).tolist():
        raise ModelError(
            "the exported model's classes for the encoded sample are not its likeliest, so it was discarded"
        )
