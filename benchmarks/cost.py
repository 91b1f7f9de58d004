"""Where a request's CPU time goes: by process under load, and of the two largest parts alone."""

import base64
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import psutil
from cases import CASES, Case
from deployment import deployed, machine
from load import closed_loop
from serving import request_body

from visionserve.cortex.replica import WORKER_ENVIRONMENT
from visionserve.inference.client import ServingClient
from visionserve.vision.pixels import to_input


@click.command()
@click.option("--seconds", default=10.0, show_default=True, help="Length of the load.")
@click.option("--clients", default=8, show_default=True)
def main(seconds: float, clients: int) -> None:
    """Measure the CPU time of a request with the null engine, in ms.

    Example: scripts/bench cost
    """
    click.echo(f"machine: {machine()}")
    with tempfile.TemporaryDirectory() as work:
        for case in (case for case in CASES if case.engine == "null"):
            body = request_body(case, Path(work))
            under_load(case, body, seconds, clients)
            jpeg = base64.b64decode(json.loads(body.read_bytes())["img"])
            cv2.setNumThreads(1)
            click.echo(f"  to_input alone        {cpu_ms(lambda jpeg=jpeg: to_input(jpeg)):6.2f}")
        client_ms, server_ms = remote_call(Path(work))
        click.echo("a call of the model server with one image, nothing beside it")
        click.echo(f"  in the client         {client_ms:6.2f}\n  in the model server   {server_ms:6.2f}")


def under_load(case: Case, body: Path, seconds: float, clients: int) -> None:
    with deployed("null") as deployment:
        row = deployment.row()
        closed_loop(row["endpoint"], body, clients, 2)
        processes = {name: psutil.Process(pid) for name, pid in row["processes"].items()}
        before, children = {name: used(process) for name, process in processes.items()}, generator()
        answers = closed_loop(row["endpoint"], body, clients, seconds)
        spent = {name: used(process) - before[name] for name, process in processes.items()}
        spent["load generator"] = generator() - children
    click.echo(f"{case.size[0]}x{case.size[1]}: {answers.per_second:.0f} requests/s; CPU ms of one by process")
    for name, total in spent.items():
        click.echo(f"  {name:22}{total * 1000 / answers.count:6.2f}")
    click.echo(f"  {'all':22}{sum(spent.values()) * 1000 / answers.count:6.2f}")


def used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def generator() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def cpu_ms(work: Callable[[], object], rounds: int = 10, calls: int = 20) -> float:
    """The least mean over the rounds: what other processes take from the caches only adds to it."""
    means = []
    for _ in range(rounds):
        started = time.thread_time()
        for _ in range(calls):
            work()
        means.append((time.thread_time() - started) * 1000 / calls)
    return min(means)


def remote_call(folder: Path, calls: int = 2000) -> tuple[float, float]:
    """CPU ms in the client and in the server."""
    address = f"unix:{folder / 'model.sock'}"
    settings = folder / "server.json"
    settings.write_text(
        json.dumps({"address": address, "models": [{"name": "null", "path": str(folder), "engine": "null"}]})
    )
    command = [sys.executable, "-m", "visionserve.inference.model_server", str(settings)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            client = ServingClient(address, {"null": "serving_default"})
            client.wait_until_available(60)
            pixels = {"input": np.zeros((1, 224, 224, 3), np.uint8)}
            for _ in range(100):
                client.predict(pixels)
            server = psutil.Process(process.pid)
            before, started = used(server), time.process_time()
            for _ in range(calls):
                client.predict(pixels)
            return (time.process_time() - started) * 1000 / calls, (used(server) - before) * 1000 / calls
        finally:
            process.terminate()


if __name__ == "__main__":
    if not WORKER_ENVIRONMENT.items() <= os.environ.items():
        # What is measured here alone must find the allocator as a worker does.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **WORKER_ENVIRONMENT})
    main()
