"""The engine alone, in a process of its own: for each line "BATCH SECONDS" on stdin, one line of images/s on stdout."""

import sys
import time
from pathlib import Path

import numpy as np

from visionserve.cores import available_cores
from visionserve.inference.engine import TensorSpec
from visionserve.inference.engines import load_engine
from visionserve.inference.model_folder import find_version
from visionserve.inference.signature_key import DEFAULT_SIGNATURE

# Of the pictures for a model that takes any; the detector's own network sees as many.
OPEN_SIDE = 512


def main() -> None:
    name, folder = sys.argv[1:]
    engine = load_engine(name, find_version(Path(folder))[1], DEFAULT_SIGNATURE, available_cores())
    [(key, spec)] = engine.signature.inputs.items()
    images = pictures(64, spec)
    for line in sys.stdin:
        batch, seconds = int(line.split()[0]), float(line.split()[1])
        engine.infer({key: images[:batch]})
        done, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            engine.infer({key: images[done % 32 : done % 32 + batch]})
            done += batch
        print(done / elapsed, flush=True)


def pictures(count: int, spec: TensorSpec) -> np.ndarray:
    """uint8 [count, H, W, 3]."""
    sides = [OPEN_SIDE if side == -1 else side for side in spec.shape[1:3]]
    return np.random.default_rng(0).integers(0, 256, (count, *sides, 3), np.uint8)


if __name__ == "__main__":
    main()
