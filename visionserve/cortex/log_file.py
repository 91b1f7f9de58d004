import os
import time
from collections.abc import Iterator
from pathlib import Path

POLL_SECONDS = 0.2


def lines(path: Path, follow: bool) -> Iterator[str]:
    """The lines of a log; with `follow` without end, through rotations too."""
    while True:
        with open(path, errors="replace") as file:
            yield from file
            if not follow:
                return
            while not _replaced(path, file.fileno()):
                time.sleep(POLL_SECONDS)
                yield from file


def _replaced(path: Path, descriptor: int) -> bool:
    return path.exists() and path.stat().st_ino != os.fstat(descriptor).st_ino
