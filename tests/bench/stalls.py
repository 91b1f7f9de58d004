import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TICK_S = 0.002
# What waking up takes on a machine that has nothing else to do.
USUAL_S = 0.003


@dataclass
class Stalls:
    """For how long, all in all, a process had to wait for a core; known once the measuring is over."""

    seconds: float = 0.0

    @property
    def ms(self) -> float:
        return self.seconds * 1000


@contextmanager
def measured_stalls() -> Iterator[Stalls]:
    """Measures what this machine makes a process wait that, like a client, mostly waits for something else.

    A client adds that to what it measures, and no server can know it.
    """
    stalls = Stalls()
    command = [sys.executable, "-m", "tests.bench.stalls"]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "begun\n"
        try:
            yield stalls
        finally:
            process.stdin.close()
            stalls.seconds = float(process.stdout.readline())


def _measure() -> None:
    print("begun", flush=True)
    lost_s, ended = 0.0, False
    while not ended:
        began = time.monotonic()
        ended = bool(select.select([sys.stdin], [], [], TICK_S)[0])
        late_s = time.monotonic() - began - TICK_S
        lost_s += late_s if late_s > USUAL_S else 0.0
    print(lost_s, flush=True)


if __name__ == "__main__":
    _measure()
