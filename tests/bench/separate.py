import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.servers import Behavior, Exchange, serving


def steady(exchange: Exchange) -> None:
    """Says when the first request came."""
    if exchange.number == 0:
        print("begun", flush=True)
    time.sleep(0.02)
    exchange.answer()


def dying(exchange: Exchange) -> None:
    """Takes the whole server with it at the eleventh request."""
    if exchange.number == 10:
        os._exit(0)
    exchange.answer()


BEHAVIORS: dict[str, Behavior] = {"steady": steady, "dying": dying}


@contextmanager
def separate_server(behavior: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server in a process of its own, which can be stopped or die; yields its URL and the process."""
    command = [sys.executable, "-m", "tests.bench.separate", behavior]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


if __name__ == "__main__":
    with serving(BEHAVIORS[sys.argv[1]]) as (url, _):
        print(url, flush=True)
        threading.Event().wait()
