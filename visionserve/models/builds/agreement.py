import numpy as np
from pydantic import BaseModel


class Agreement(BaseModel):
    """How far a build answers as the model that it was made of does.

    `top1`, `top5`: the part of the pictures whose likeliest class, or set of five likeliest, is the same.
    `largest_difference`: of any probability.
    """

    pictures: int
    top1: float
    top5: float
    largest_difference: float


def compare(given: np.ndarray, wanted: np.ndarray) -> Agreement:
    """Both probabilities [N, K] of the same N pictures. A NaN is a difference of infinity."""
    differences = np.abs(given.astype(np.float64) - wanted)
    five, wanted_five = (np.sort(np.argsort(-probabilities, axis=1)[:, :5]) for probabilities in (given, wanted))
    return Agreement(
        pictures=len(wanted),
        top1=float(np.mean(given.argmax(axis=1) == wanted.argmax(axis=1))),
        top5=float(np.mean((five == wanted_five).all(axis=1))),
        largest_difference=float(np.nan_to_num(differences, nan=np.inf).max()),
    )
