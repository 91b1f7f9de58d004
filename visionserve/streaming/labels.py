from typing import TypedDict

import numpy as np

from visionserve.errors import ModelError
from visionserve.vision.labels import IMAGENET_CLASSES, load_classes, top_k

BACKGROUND = "background"


class LabelRow(TypedDict):
    label: str
    probability: float


def load_labels(count: int) -> list[str]:
    """ImageNet's names for a model of `count` classes: 1000, or 1001 where the first is the background, as those of
    Slim's Inception family have it. Raises ModelError for another number."""
    names = load_classes(IMAGENET_CLASSES)
    if count == len(names) + 1:
        return [BACKGROUND, *names]
    if count != len(names):
        raise ModelError(
            f"The model gives {count} classes, where ImageNet has {len(names)}, or one more for a background."
        )
    return names


def top5(probabilities: np.ndarray, labels: list[str]) -> list[list[LabelRow]]:
    """float [N, K] -> for each row its five likeliest labels with their probabilities, most likely first."""
    return [[{"label": name, "probability": p} for name, p in row] for row in top_k(probabilities, labels, 5)]
