import numpy as np
from pydantic import BaseModel

from visionserve.errors import ModelError

# What arithmetic in FP16 may cost.
LARGEST_DIFFERENCE_IN_FP16 = 2e-2


class Agreement(BaseModel):
    """How far a build answers as the model that it was made of does.

    `top1`, `top5`: the part of the pictures whose likeliest class, or set of five likeliest, is the same.
    `largest_difference`: of any probability.
    """

    pictures: int
    top1: float
    top5: float
    largest_difference: float

    def __str__(self) -> str:
        return (
            f"{self.pictures} pictures: top-1 {self.top1:.1%} the same, top-5 {self.top5:.1%}, "
            f"probabilities within {self.largest_difference:.1e}"
        )


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


def check_fp16(given: np.ndarray, wanted: np.ndarray, batch_size: int) -> Agreement:
    """`compare` of what a build in FP16 gives, in batches of `batch_size`, with what the CPU build gives.

    Raises ModelError where a class is another one, or a probability differs by more than 2e-2.
    """
    if given.shape != wanted.shape:
        raise ModelError(
            f"in batches of {batch_size}, the build gives {list(given.shape)} probabilities and the CPU build "
            f"{list(wanted.shape)}, so it was discarded"
        )
    agreement = compare(given, wanted)
    # Written so that a NaN fails too.
    if not agreement.largest_difference <= LARGEST_DIFFERENCE_IN_FP16 or agreement.top1 < 1:
        raise ModelError(
            f"in batches of {batch_size}, the build's probabilities differ from the CPU build's by up to "
            f"{agreement.largest_difference:.2g}, and its likeliest class is the same for {agreement.top1:.0%} of the "
            f"pictures, so it was discarded"
        )
    return agreement


def worst(agreements: list[Agreement]) -> Agreement:
    return max(agreements, key=lambda agreement: agreement.largest_difference)
