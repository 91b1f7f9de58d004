"""The engine alone, in a process of its own: for each line "BATCH SECONDS" on stdin, one line of images/s on stdout."""

import sys
import time
from pathlib import Path

import numpy as np

from visionserve.cores import available_cores
from visionserve.inference.engine import DEFAULT_SIGNATURE
from visionserve.inference.engines import load_engine
from visionserve.inference.model_folder import find_version


def main() -> None:
    name, folder = sys.argv[1:]
    engine = load_engine(name, find_version(Path(folder))[1], DEFAULT_SIGNATURE, available_cores())
    images = np.random.default_rng(0).integers(0, 256, (64, 224, 224, 3), np.uint8)
    for line in sys.stdin:
        batch, seconds = int(line.split()[0]), float(line.split()[1])
        engine.infer({"input": images[:batch]})
        done, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            engine.infer({"input": images[done % 32 : done % 32 + batch]})
            done += batch
        print(done / elapsed, flush=True)


if __name__ == "__main__":
    main()
