"""The image-classification stream on Flink beside the bare engine, by turns; and its memory over many images."""

import statistics
import sys
from pathlib import Path

import click
from deployment import REPOSITORY, machine
from load import LoadError
from stream_bare import BareEngines
from stream_job import StreamCluster, stream_cluster

BATCHES = (1, 2, 4, 8)
# Tasks and the threads of each.
SHAPES = ((1, 2), (2, 1))
DUE = 0.85
GROWTH_DUE = 1.05
# The cluster's share of one core beyond which it is not idle.
IDLE = 0.1
FEW = 1000


@click.command()
@click.option("--rounds", default=7, show_default=True, help="Jobs at each parallelism.")
@click.option("--images", default=1000, show_default=True, help="Images of a job.")
@click.option("--seconds", default=6.0, show_default=True, help="Length of a turn of the bare engine.")
@click.option("--memory", "many", type=int, is_flag=False, flag_value=10_000, help="Memory over so many images.")
@click.option("--timeline", type=click.Path(path_type=Path), help="A picture of the last job's time line.")
@click.option("--python", type=click.Path(path_type=Path, exists=True), default=REPOSITORY / ".venv-stream/bin/python")
def main(rounds: int, images: int, seconds: float, many: int | None, timeline: Path | None, python: Path) -> None:
    """Measure the stream on Flink beside the bare engine.

    The jobs run on a standalone cluster of this machine, which is idle while the bare engine is measured: as many
    processes of as many threads as the job has tasks. A job's images/s are those while all of its tasks classify: the
    start of Java and Python, the model's loading, and what the last task does alone are left out. A ratio is of a job
    over the mean of the bare engine's turns before and after it.

    Example: scripts/bench stream --rounds 3 --timeline stream.png
    """
    click.echo(f"machine: {machine()}, openvino")
    try:
        if rounds:
            for parallelism, threads in SHAPES:
                with stream_cluster(python, images, task_managers=parallelism) as cluster:
                    compare(cluster, parallelism, threads, rounds, seconds, timeline)
        if many is not None:
            with stream_cluster(python, many, task_managers=SHAPES[-1][0]) as cluster:
                show_memory(cluster, many)
    except LoadError as error:
        sys.exit(f"void: {error}")


def compare(
    cluster: StreamCluster, parallelism: int, threads: int, rounds: int, seconds: float, timeline: Path | None
) -> None:
    click.echo(f"\nparallelism {parallelism}, {threads} {'thread' if threads == 1 else 'threads'} a task, images/s")
    ratios = []
    with BareEngines(parallelism, threads) as bare:
        batch = max(BATCHES, key=lambda size: bare.images_per_s(size, seconds / 2))
        before = bare.images_per_s(batch, seconds)
        for number in range(rounds):
            job = cluster.run(parallelism, threads)
            if timeline is not None:
                job.sampler.write(timeline)
            if (busy := cluster.busy(seconds=2)) > IDLE:
                raise LoadError(f"the cluster took {busy:.2f} of a core with no job")
            after = bare.images_per_s(batch, seconds)
            ratios.append(job.images_per_s / statistics.mean([before, after]))
            turns = f"{before:.2f} and {after:.2f}, between them {job.images_per_s:.2f}"
            click.echo(f"  {number + 1}/{rounds}: bare at batch {batch} {turns} (idle cluster: {busy:.2f} of a core)")
            before = after
    costs = job.cpu_ms()
    click.echo("  CPU ms of one image: " + ", ".join(f"{kind} {spent:.1f}" for kind, spent in costs.items()))
    median = statistics.median(ratios)
    verdict = "met" if median >= DUE else "NOT MET"
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    click.echo(f"  stream / bare: {median:.3f} ({spread}), due at least {DUE:g}: {verdict}")


def show_memory(cluster: StreamCluster, many: int) -> None:
    """Medians over FEW images each."""
    click.echo(f"\nresident memory of the cluster and the job, MiB, over {many} images")
    costs = cluster.run(*SHAPES[-1]).costs
    early, late = ([each.mib for each in costs if low <= each.images < low + FEW] for low in (FEW, many - FEW))
    totals = []
    for part, when in ((early, f"after {FEW}"), (late, f"after {many - FEW}")):
        kinds = {kind: statistics.median(each[kind] for each in part) for kind in part[0]}
        totals.append(sum(kinds.values()))
        click.echo(f"  {when}: {totals[-1]:.0f}: " + ", ".join(f"{kind} {size:.0f}" for kind, size in kinds.items()))
    ratio = totals[1] / totals[0]
    verdict = "met" if ratio <= GROWTH_DUE else "NOT MET"
    click.echo(f"  after {many - FEW} / after {FEW}: {ratio:.3f}, due at most {GROWTH_DUE:g}: {verdict}")


if __name__ == "__main__":
    main()
