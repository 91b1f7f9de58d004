"""The tool's own steadiness: inferences/s of a server that waits rather than computes, measured again and again."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from clients.generators import FOLDER, Errand, Ours
from clients.listening import wait_until_listening
from contestants import stop
from deployment import free_port


@contextmanager
def delaying(delay_ms: int) -> Iterator[str]:
    """The address of a server that answers each request `delay_ms` after its last byte.

    Raises LoadError when it does not start.
    """
    port = free_port()
    with tempfile.NamedTemporaryFile("w+") as log:
        process = psutil.Popen(
            [sys.executable, str(FOLDER / "delaying.py"), str(port), str(delay_ms)],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until_listening(process, port, Path(log.name))
            yield f"http://127.0.0.1:{port}/"
        finally:
            stop(process)


def repeat(ours: Ours, errand: Errand, times: int, seconds: float, say: Callable[[str], None]) -> list[float]:
    """Inferences/s of each run; raises LoadError when a request fails."""
    rates: list[float] = []
    for number in range(times):
        figures = ours.run(errand, seconds).execute().figures
        ours.answers(figures)
        rates.append(json.loads(figures)["inferences_per_s"])
        say(f"steady {number + 1}/{times}: {rates[-1]:.2f} inferences/s")
    return rates
