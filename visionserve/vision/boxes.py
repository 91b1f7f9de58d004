"""Boxes float [N, 4] = ymin, xmin, ymax, xmax, as TensorFlow's detection models give them."""

from typing import List, Sequence

import numpy as np


def overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[N, 4] and [M, 4] -> [N, M]: intersection over union, 0..1; 0 where both are empty."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    union = _areas(boxes)[:, None] + _areas(others)[None, :] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def suppress(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, max_overlap: float) -> List[int]:
    """Non-maximum suppression: the indices of the boxes that stay, highest score first.

    A box goes when one of its own class with a higher score stays that it overlaps by more than `max_overlap`.
    """
    order = np.argsort(-scores, kind="stable")
    rivals = (overlap(boxes, boxes) > max_overlap) & (classes[:, None] == classes[None, :])
    gone = np.zeros(len(boxes), bool)
    kept = []
    for index in order.tolist():
        if not gone[index]:
            kept.append(index)
            gone |= rivals[index]
    return kept


def to_pixels(box: Sequence[float], height: int, width: int) -> List[int]:
    """A box in 0..1 of a picture -> ymin, xmin, ymax, xmax in whole pixels of it, at least one pixel each way.

    It lies within the picture; ymax and xmax are the first row and column beyond the box.
    """
    pixels = []  # type: List[int]
    for low, high, size in ((box[0], box[2], height), (box[1], box[3], width)):
        first = min(max(round(low * size), 0), size - 1)
        pixels += [first, max(min(round(high * size), size), first + 1)]
    return [pixels[0], pixels[2], pixels[1], pixels[3]]


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
