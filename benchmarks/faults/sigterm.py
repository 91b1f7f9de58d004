"""How long a deployment takes to end on SIGTERM, where one of its requests or processes never does."""

import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import psutil
import requests
from deployment import cortex, free_port, machine

from tests.projects import write_project

# Kubernetes' default terminationGracePeriodSeconds.
GRACE_SECONDS = 30
LONGEST = 120
PREDICTOR = """
import time

class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        time.sleep(payload)
"""
CASES = {"nothing in flight": (0, False), "a request that never ends": (3600, False), "a stopped worker": (0, True)}


@click.command()
def main() -> None:
    """Send SIGTERM to a deployment with nothing to do, one with a request that never ends, one with a worker stopped.

    Prints the seconds until none of its processes is left, due in the grace period that Kubernetes gives a container.
    """
    click.echo(f"machine: {machine()}")
    for case, (asked, stopped) in CASES.items():
        with tempfile.TemporaryDirectory() as work:
            seconds = seconds_to_end(Path(work), asked, stopped)
        verdict = "met" if seconds <= GRACE_SECONDS else "NOT MET"
        click.echo(f"{case}: ended after {seconds:.1f} s, due {GRACE_SECONDS}: {verdict}")


def seconds_to_end(work: Path, asked: float, stopped: bool) -> float:
    """Of a deployment with a request that takes `asked` seconds and, if `stopped`, one worker that stands still."""
    environment = {**os.environ, "XDG_STATE_HOME": str(work / "state"), "VISIONSERVE_EXIT_WITH_PID": str(os.getpid())}
    cortex(environment, "deploy", write_project(work / "project", PREDICTOR), "--port", free_port())
    row = json.loads(cortex(environment, "get", "-o", "json"))[0]
    worker = psutil.Process(row["processes"]["worker 0"])
    supervisor = worker.parent()
    assert supervisor is not None
    everything = [supervisor, *supervisor.children(recursive=True)]
    with ThreadPoolExecutor(1) as threads:
        if asked:
            threads.submit(requests.post, row["endpoint"], json=asked, timeout=LONGEST)
            time.sleep(2)
        if stopped:
            worker.suspend()
        supervisor.terminate()
        began = time.monotonic()
        while any(is_alive(process) for process in everything) and time.monotonic() - began < LONGEST:
            time.sleep(0.02)
        return time.monotonic() - began


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    main()
