"""python -m tests.fuzz.child TARGET[,TARGET]... CASES SEED FOLDER: fuzzes in this process. One target is guided by
coverage where atheris is installed; several share the cases in turn. FOLDER/case holds the input, should it kill us."""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import psutil

REPORT = "fuzz report: "
ATHERIS = importlib.util.find_spec("atheris") is not None
INSTRUMENTED = ["visionserve", "predictor", "cloudevents", "starlette", "python_multipart", "yaml"]
# Caches fill in the first cases.
WARM = 0.3


class Run:
    """Hands cases to targets and keeps account of them; after the last one it prints a report as a line of JSON."""

    def __init__(self, cases: int, folder: Path) -> None:
        self._cases = cases
        self._process = psutil.Process()
        self._case = os.open(folder / "case", os.O_RDWR | os.O_CREAT)
        self._done, self._slowest = 0, 0.0
        self._warm = 0

    def __call__(self, check: Callable[[bytes], None], data: bytes) -> None:
        os.ftruncate(self._case, 0)
        os.pwrite(self._case, data, 0)
        started = time.process_time()
        check(data)
        self._slowest = max(self._slowest, time.process_time() - started)
        self._done += 1
        if self._done == int(self._cases * WARM):
            self._warm = self._process.memory_info().rss
        if self._done == self._cases:
            figures = {"slowest_ms": round(self._slowest * 1000), "warm_mb": round(self._warm / 2**20)}
            end = round(self._process.memory_info().rss / 2**20)
            print(REPORT + json.dumps({"cases": self._done, **figures, "end_mb": end}), flush=True)


def main(names: Sequence[str], cases: int, seed: int, folder: Path) -> None:
    guided = ATHERIS and len(names) == 1
    if guided:
        import atheris

        with atheris.instrument_imports(include=INSTRUMENTED):
            from tests.fuzz.targets import TARGETS
    else:
        from tests.fuzz.targets import TARGETS
    import cv2

    from tests.fuzz.mutations import mutated

    cv2.setNumThreads(1)
    run = Run(cases, folder)
    if guided:
        _guided(run, *TARGETS[names[0]], cases, seed, folder)
    else:
        random = Random(seed)
        targets = [(check, list(seeds())) for check, seeds in (TARGETS[name] for name in names)]
        for number in range(cases):
            check, files = targets[number % len(targets)]
            turn = number // len(targets)
            run(check, files[turn] if turn < len(files) else mutated(random.choice(files), files, random))


def _guided(
    run: Run, check: Callable[[bytes], None], seeds: Callable[[], Sequence[bytes]], cases: int, seed: int, folder: Path
) -> None:
    import atheris

    from tests.fuzz.mutations import LONGEST, mutated

    files = list(seeds())
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, file in enumerate(files):
        (corpus / f"{number:03}").write_bytes(file)

    def mutate(data: bytes, largest: int, number: int) -> bytes:
        random = Random(number)
        return atheris.Mutate(data, largest) if random.random() < 0.3 else mutated(data, files, random)[:largest]

    options = [f"-runs={cases}", f"-seed={seed}", f"-max_len={LONGEST}", "-len_control=0", "-timeout=30"]
    options += ["-rss_limit_mb=4096", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], lambda data: run(check, data), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
