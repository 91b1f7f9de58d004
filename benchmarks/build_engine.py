"""A build in an engine, in a process of its own: `build_engine.py ENGINE FOLDER THREADS`.

It answers in JSON lines: first what loading took, then for each line "BATCH CALLS" on stdin its quickest call.
"""

import importlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from visionserve.inference.engines import load_engine
from visionserve.inference.signature_key import DEFAULT_SIGNATURE


def main() -> None:
    name, folder, threads = sys.argv[1:]
    # It takes as long for every build.
    importlib.import_module(name)
    images = np.random.default_rng(0).integers(0, 256, (32, 224, 224, 3), np.uint8)
    started = time.perf_counter()
    engine = load_engine(name, Path(folder), DEFAULT_SIGNATURE, int(threads))
    engine.infer({"input": images[:1]})
    say(load_s=time.perf_counter() - started)
    for line in sys.stdin:
        batch, calls = map(int, line.split())
        seconds = []
        for _ in range(calls):
            started = time.perf_counter()
            engine.infer({"input": images[:batch]})
            seconds.append(time.perf_counter() - started)
        resident, peak = psutil.Process().memory_info().rss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        say(images_per_s=batch / min(seconds), resident_mib=resident / 2**20, peak_mib=peak / 2**20)


def say(**figures: float) -> None:
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
