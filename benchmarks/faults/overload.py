"""Ten times the load that a deployment can bear: what is answered in time, what is refused, and what is left of it."""

import base64
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import click
import psutil
import requests
from deployment import REPOSITORY, Deployment, deployed, machine, write_photo
from memory import resident_mib

LATENCY_DUE, MEMORY_DUE, RECOVERY_SECONDS = 3.0, 1.3, 10.0
# Seconds between two requests of the client that watches the refusals, which the benchmark's command does not time.
PROBE_INTERVAL = 0.2
TIMEOUT = 60


@click.command()
@click.option("--engine", default="openvino", show_default=True)
@click.option("--seconds", default=120.0, show_default=True, help="Length of the overload.")
@click.option("--times", default=10.0, show_default=True, help="The load, as a multiple of the capacity.")
@click.option("--turn-seconds", default=15.0, show_default=True, help="Length of each turn before and after.")
@click.option("--batch-interval-ms", default=0.0, show_default=True, help="Of the spec's server_side_batching.")
def main(engine: str, seconds: float, times: float, turn_seconds: float, batch_interval_ms: float) -> None:
    """Overload a deployment of cortex_cpu.yaml in open loop and print each figure beside what is due.

    One client gives the unloaded p99, eight the capacity; then comes the overload, and ten seconds later one client
    again. The generator runs on the same cores; its share of them is printed.
    """
    click.echo(f"machine: {machine()}")
    with tempfile.TemporaryDirectory() as folder, deployed(engine) as deployment:
        load = Load(deployment, Path(folder))
        alone = load.run("-t", 1, "-i", turn_seconds, "--warmup", 3)
        eight = load.run("-t", 8, "-i", turn_seconds, "--warmup", 3)
        unloaded, capacity = alone["latency_ms"]["p99"], eight["requests_per_s"]
        click.echo(f"one client: p50 {alone['latency_ms']['p50']:.1f} ms, p99 {unloaded:.1f} ms")
        click.echo(f"eight clients: {capacity:.1f} requests/s, p99 {eight['latency_ms']['p99']:.1f} ms")
        report_memory = MemoryWatch(deployment)
        with report_memory, RefusalWatch(deployment.row()["endpoint"], load.photo) as refusals:
            over = load.run("--rate", round(capacity * times, 1), "-i", seconds, "--connections", 1024)
        time.sleep(RECOVERY_SECONDS)
        after = load.run("-t", 1, "-i", turn_seconds)
    refused = sum(over["errors"].values())
    click.echo(
        f"{times:g} times the capacity for {seconds:g} s: {over['served']} answered "
        f"({over['served'] / over['duration_s']:.1f} a second), {refused} not: {over['errors']}"
    )
    click.echo(f"the generator took {over['client_cpu_s'] / over['duration_s']:.2f} cores")
    answered = ", ".join(f"{name} {over['latency_ms'][name]:.1f}" for name in ("p50", "p90", "p95", "p99"))
    click.echo(f"latency of those answered, ms: {answered}")
    due = LATENCY_DUE * unloaded + batch_interval_ms
    say("p99 of those answered, ms", over["latency_ms"]["p99"], due)
    say("answered otherwise than 200 or 503", sum(n for kind, n in over["errors"].items() if kind != "status 503"), 0)
    click.echo(f"503 after, ms: p50 {refusals.quantile(0.5):.1f}, p99 {refusals.quantile(0.99):.1f}")
    say("503 without Retry-After", refusals.without_retry_after, 0)
    say("memory at most, over that before", report_memory.most / report_memory.before, MEMORY_DUE)
    say(
        f"p99 of one client {RECOVERY_SECONDS:g} s later, over that before", after["latency_ms"]["p99"] / unloaded, 1.25
    )


def say(what: str, figure: float, due: float) -> None:
    click.echo(f"{what}: {figure:.4g}, due at most {due:.4g}: {'met' if figure <= due else 'NOT MET'}")


class Load:
    """The benchmark's own command, with a photograph as it comes from a camera, reduced to 640x427."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.photo = folder / "photo.jpg"
        write_photo(self.photo)
        self._endpoint = deployment.row()["endpoint"]
        self._report = folder / "report.json"

    def run(self, *options: object) -> dict[str, Any]:
        command = [sys.executable, "throughput_test.py", "--payload", "img", "--json", self._report, *options]
        words = [*map(str, command), str(self.photo), self._endpoint]
        # Failed requests, which overload is about, give exit code 1.
        done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise click.ClickException(f"throughput_test.py ended with status {done.returncode}: {done.stderr}")
        return json.loads(self._report.read_text())


class MemoryWatch:
    """The memory of a deployment before and while something runs, in MiB."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.before = self.most = resident_mib(deployment)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        worker = psutil.Process(next(iter(self._deployment.row()["processes"].values())))
        supervisor = worker.parent()
        assert supervisor is not None
        while not self._stop.wait(1):
            processes = [supervisor, *supervisor.children(recursive=True)]
            self.most = max(self.most, sum(process.memory_info().rss for process in processes) / 2**20)


class RefusalWatch:
    """A client that asks a few times a second and keeps how long each 503 took."""

    def __init__(self, endpoint: str, photo: Path) -> None:
        self._endpoint = endpoint
        self._body = {"img": base64.b64encode(photo.read_bytes()).decode()}
        self.milliseconds: list[float] = []
        self.without_retry_after = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "RefusalWatch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def quantile(self, part: float) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[int(part * (len(ordered) - 1))] if ordered else float("nan")

    def _watch(self) -> None:
        with requests.Session() as session:
            while not self._stop.wait(PROBE_INTERVAL):
                answer = session.post(self._endpoint, json=self._body, timeout=TIMEOUT)
                if answer.status_code == 503:
                    self.milliseconds.append(answer.elapsed.total_seconds() * 1000)
                    self.without_retry_after += "retry-after" not in answer.headers


if __name__ == "__main__":
    main()
