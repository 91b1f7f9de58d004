"""Loads an engine of one thread and prints the sets of cores that this process's threads may run on while it infers."""

import os
import sys
import threading
from pathlib import Path

import numpy as np

from visionserve.inference.engines import load_engine
from visionserve.inference.signature_key import DEFAULT_SIGNATURE


def main() -> None:
    engine = load_engine("openvino", Path(sys.argv[1]), DEFAULT_SIGNATURE, threads=1)
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            for task in Path("/proc/self/task").iterdir():
                try:
                    seen.add(",".join(map(str, sorted(os.sched_getaffinity(int(task.name))))))
                except ProcessLookupError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(5):
        engine.infer({"input": np.zeros((1, 224, 224, 3), np.uint8)})
    ended.set()
    watcher.join()
    print("\n".join(sorted(seen)))


if __name__ == "__main__":
    main()
