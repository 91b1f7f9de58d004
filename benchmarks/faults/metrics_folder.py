"""What is left in the folder of metrics after many processes have counted something in it and ended."""

import os
import tempfile
import time
from pathlib import Path

import click

from visionserve import metrics_folder

FILES_DUE, BYTES_DUE = 6, 6 * metrics_folder.FILE_BYTES


@click.command()
@click.option("--processes", default=10_000, show_default=True)
def main(processes: int) -> None:
    """Start PROCESSES processes one after another, each of which counts one request, observes one latency and dies of
    SIGKILL; after each the supervisor's bookkeeping runs."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "metrics"
        seconds = [death(folder) for _ in range(processes)]
        files = list(folder.iterdir())
        size = sum(file.stat().st_size for file in files)
        found = {sample.name: sample.value for metric in metrics_folder.collect(folder) for sample in metric.samples}
    counted, observed = found["visionserve_requests_total"], found["visionserve_request_seconds_count"]
    click.echo(f"processes: {processes}; bookkeeping after each: {1000 * sum(seconds) / processes:.2f} ms")
    click.echo(f"files left: {len(files)} (at most {FILES_DUE}), bytes: {size} (at most {BYTES_DUE})")
    click.echo(f"counted: {counted:.0f}, observed: {observed:.0f} (both {processes})")
    if len(files) > FILES_DUE or size > BYTES_DUE or {counted, observed} != {processes}:
        raise SystemExit(1)


def death(folder: Path) -> float:
    """Seconds that the bookkeeping took after one process."""
    pid = os.fork()
    if pid == 0:
        metrics_folder.keep_in(folder)
        count_one()
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    started = time.perf_counter()
    metrics_folder.absorb(folder, pid)
    return time.perf_counter() - started


def count_one() -> None:
    import prometheus_client.values
    from prometheus_client import CollectorRegistry, Counter, Histogram, metrics

    # As in a process that has imported it after keep_in.
    metrics.values.ValueClass = prometheus_client.values.get_value_class()
    registry = CollectorRegistry()
    Counter("visionserve_requests", "Answered requests.", registry=registry).inc()
    Histogram("visionserve_request_seconds", "Seconds.", registry=registry).observe(0.1)


if __name__ == "__main__":
    main()
