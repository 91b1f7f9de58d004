import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BATCHES = (1, 8)
ROUNDS = 5
TURN_SECONDS = 0.2

Classify = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Speed:
    """Images per second at one batch size. `ratio`: of a build's to its reference's, the median of the rounds."""

    batch: int
    build: float
    reference: float
    ratio: float


def measure_by_turns(build: Classify, reference: Classify, pictures: np.ndarray) -> list[Speed]:
    """Both on the same batches of `pictures` [N, ...] for a fraction of a second each, one after the other.

    Turns, since a machine's speed changes over seconds: of two rates a minute apart the ratio says little.
    """
    return [_measure(build, reference, np.resize(pictures, (batch, *pictures.shape[1:]))) for batch in BATCHES]


def _measure(build: Classify, reference: Classify, batch: np.ndarray) -> Speed:
    for classify in (build, reference):
        classify(batch)
    turns = [(_images_per_s(build, batch), _images_per_s(reference, batch)) for _ in range(ROUNDS)]
    builds, references = zip(*turns, strict=True)
    return Speed(
        batch=len(batch),
        build=statistics.median(builds),
        reference=statistics.median(references),
        ratio=statistics.median(one / other for one, other in turns),
    )


def _images_per_s(classify: Classify, batch: np.ndarray) -> float:
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < TURN_SECONDS or not done:
        classify(batch)
        done += len(batch)
    return done / elapsed
