"""Resident memory: of four workers over one, and after many requests over after few."""

import json
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import psutil
import yaml
from cases import CASES, Goal
from deployment import REPOSITORY, Deployment, deployed, machine
from load import fixed_count
from serving import request_body

from visionserve.files import write_atomically

WORKERS = (1, 4)
FEW = 200
WORKERS_GOAL, GROWTH_GOAL = Goal("processes_per_replica: 1", 1.6, at_most=True), Goal("few", 1.05, at_most=True)


@click.command()
@click.option("--engine", "engines", multiple=True, default=("openvino",), show_default=True)
@click.option("--requests", "many", default=20_000, show_default=True, help="Requests of the growth measure.")
@click.option("--growth-engine", "growth_engines", multiple=True, default=("null",), show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Deployments of each number of workers.")
@click.option("--clients", default=8, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write every figure here.")
def main(
    engines: tuple[str, ...],
    many: int,
    growth_engines: tuple[str, ...],
    rounds: int,
    clients: int,
    json_file: Path | None,
) -> None:
    """Measure the resident memory of all processes of a deployment, in MiB.

    Pages that processes share count once in each of them.
    """
    click.echo(f"machine: {machine()}")
    figures: dict = {"machine": machine(), "workers": {}, "growth": {}}
    with tempfile.TemporaryDirectory() as work:
        body = request_body(CASES[0], Path(work))
        for engine in engines:
            figures["workers"][engine] = by_workers(engine, body, rounds, clients)
        for engine in growth_engines:
            figures["growth"][engine] = growth(engine, body, many, clients)
    if json_file is not None:
        write_atomically(json_file, json.dumps(figures, indent=2).encode())


def by_workers(engine: str, body: Path, rounds: int, clients: int) -> dict[int, list[float]]:
    resident: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for number in range(rounds):
        for workers in WORKERS if number % 2 == 0 else reversed(WORKERS):
            with spec_with(workers) as spec, deployed(engine, spec) as deployment:
                fixed_count(deployment.row()["endpoint"], body, clients, FEW)
                resident[workers].append(resident_mib(deployment))
    one, four = (resident[workers] for workers in WORKERS)
    for workers, sizes in resident.items():
        click.echo(f"{engine}: {workers} workers: median {statistics.median(sizes):.0f} MiB after {FEW} requests")
    say_ratio(
        f"{engine}: four workers / one", [mine / other for mine, other in zip(four, one, strict=True)], WORKERS_GOAL
    )
    return resident


def growth(engine: str, body: Path, many: int, clients: int) -> dict[int, float]:
    with deployed(engine) as deployment:
        endpoint = deployment.row()["endpoint"]
        fixed_count(endpoint, body, clients, FEW)
        before = resident_mib(deployment)
        fixed_count(endpoint, body, clients, many - FEW)
        after = resident_mib(deployment)
    click.echo(f"{engine}: {before:.1f} MiB after {FEW} requests, {after:.1f} MiB after {many}")
    say_ratio(f"{engine}: after {many} / after {FEW}", [after / before], GROWTH_GOAL)
    return {FEW: before, many: after}


def say_ratio(what: str, ratios: list[float], goal: Goal) -> None:
    median = statistics.median(ratios)
    verdict = "met" if goal.met(median) else "NOT MET"
    click.echo(f"{what}: {median:.3f} ({min(ratios):.3f} to {max(ratios):.3f}), due at most {goal.bound:g}: {verdict}")


@contextmanager
def spec_with(workers: int) -> Iterator[Path]:
    """cortex_cpu.yaml with another processes_per_replica, in a copy of the project's folder."""
    document = yaml.safe_load((REPOSITORY / "cortex_cpu.yaml").read_text())
    predictor = document[0]["predictor"]
    predictor["processes_per_replica"] = workers
    with tempfile.TemporaryDirectory() as folder:
        for file in (predictor["path"], predictor["config"]["classes"]):
            Path(folder, file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / file, Path(folder, file))
        predictor["model_path"] = str(REPOSITORY / predictor["model_path"])
        spec = Path(folder, "cortex_cpu.yaml")
        spec.write_text(yaml.safe_dump(document))
        yield spec


def resident_mib(deployment: Deployment) -> float:
    """Of the supervisor and all that it started."""
    worker = psutil.Process(next(iter(deployment.row()["processes"].values())))
    supervisor = worker.parent()
    assert supervisor is not None
    return sum(process.memory_info().rss for process in [supervisor, *supervisor.children(recursive=True)]) / 2**20


if __name__ == "__main__":
    main()
