"""The CPU spec on Ray Serve beside the local runtime and the bare engine, by turns; and one replica beside two."""

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import psutil
from bare import BATCHES, BareEngine
from cases import SMALL, Case
from cost import used
from deployment import deployed, machine
from load import LoadError, closed_loop
from ray_apis import RayMachine, Scale, idle_cores, ray_machine
from serving import request_body

ONE, TWO = Scale("one-replica", 1, 1), Scale("two-replicas", 2, 1)
IDLE_S = 10.0

# Seconds -> images/s or requests/s.
Rate = Callable[[float], float]


@click.command()
@click.option("--engine", type=click.Choice(["openvino", "tensorflow"]), default="openvino", show_default=True)
@click.option("--rounds", default=11, show_default=True, help="Turns of each.")
@click.option("--seconds", default=6.0, show_default=True, help="Length of a turn; of the bare engine's, half of it.")
@click.option("--warm-up-seconds", default=3.0, show_default=True, help="Load before the first turn.")
@click.option("--clients", default=8, show_default=True, help="Connections.")
@click.option("--costs/--no-costs", default=True, show_default=True, help="Rate and CPU time without a model.")
def main(engine: str, rounds: int, seconds: float, warm_up_seconds: float, clients: int, costs: bool) -> None:
    """Measure the CPU spec on a Ray cluster of one node on this machine.

    Whoever is not measured is idle; what an idle Ray takes of a core is told, as it is missing in the others' turns.

    Example: scripts/bench ray_serve --rounds 3
    """
    cores = psutil.cpu_count() or 1
    click.echo(f"machine: {machine()}, {engine}, {clients} clients, pictures of 640x427 pixels")
    whole = Scale("whole-machine", 1, cores)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        body = request_body(Case("ray", "", "images/s", engine, SMALL), Path(folder))
        # Numbers to schedule by: all that is deployed at once has its place, and one alone is measured.
        with ray_machine(body, clients, cpus=whole.cpus + ONE.cpus + TWO.replicas) as cluster:
            try:
                if rounds:
                    scaling(cluster, engine, rounds, seconds, warm_up_seconds)
                    overhead(cluster, whole, engine, rounds, seconds, warm_up_seconds, body, clients)
                if costs:
                    without_a_model(cluster, whole, seconds, warm_up_seconds, body, clients)
            except LoadError as error:
                click.echo(f"void: {error}")
                failed = True
    sys.exit(failed)


def scaling(cluster: RayMachine, engine: str, rounds: int, seconds: float, warm_up_seconds: float) -> None:
    click.echo("\n2 replicas over 1, one core each, images/s")
    one, two = cluster.deploy(engine, ONE), cluster.deploy(engine, TWO)
    turns = by_turns([one.per_second, two.per_second], rounds, seconds, warm_up_seconds)
    click.echo(f"  1 replica {figures(turns[0])}, 2 replicas {figures(turns[1])}")
    click.echo(f"  2 replicas / 1 replica: {ratio(turns[1], turns[0])}")
    cluster.delete(one)
    cluster.delete(two)


def overhead(
    cluster: RayMachine,
    whole: Scale,
    engine: str,
    rounds: int,
    seconds: float,
    warm_up_seconds: float,
    body: Path,
    clients: int,
) -> None:
    click.echo(f"\nall {whole.cpus} cores, images/s")
    with BareEngine(engine) as bare, deployed(engine) as local:
        ray = cluster.deploy(engine, whole)
        url = local.row()["endpoint"]
        batch = max(BATCHES, key=lambda size: bare.images_per_s(size, warm_up_seconds))
        rates: list[Rate] = [
            lambda seconds: bare.images_per_s(batch, seconds / 2),
            lambda seconds: closed_loop(url, body, clients, seconds).per_second,
            ray.per_second,
        ]
        alone, here, there = by_turns(rates, rounds, seconds, warm_up_seconds)
        names = f"bare at batch {batch} {figures(alone)}, local runtime {figures(here)}, Ray {figures(there)}"
        click.echo(f"  {names}")
        click.echo(f"  Ray / local runtime: {ratio(there, here)}\n  Ray / bare: {ratio(there, alone)}")
        click.echo(f"  the idle cluster takes {idle_cores(IDLE_S):.2f} of a core")
        cluster.delete(ray)


def without_a_model(
    cluster: RayMachine, whole: Scale, seconds: float, warm_up_seconds: float, body: Path, clients: int
) -> None:
    click.echo("\nwithout a model: requests/s, and CPU ms of one request by process")
    with deployed("null") as local:
        row = local.row()
        closed_loop(row["endpoint"], body, clients, warm_up_seconds)
        processes = {name: psutil.Process(pid) for name, pid in row["processes"].items()}
        before = {name: used(process) for name, process in processes.items()}
        answers = closed_loop(row["endpoint"], body, clients, seconds)
        spent = {name: used(process) - before[name] for name, process in processes.items()}
        click.echo(f"  local runtime: {answers.per_second:.0f} requests/s")
        show({name: 1000 * total / answers.count for name, total in spent.items()})
    ray = cluster.deploy("null", Scale("no-model", whole.replicas, whole.cpus))
    ray.per_second(warm_up_seconds)
    click.echo(f"  Ray: {ray.per_second(seconds):.0f} requests/s")
    show(ray.costs(seconds))
    cluster.delete(ray)


def show(costs: dict[str, float]) -> None:
    for name, spent in {**costs, "all": sum(costs.values())}.items():
        click.echo(f"    {spent:6.2f}  {name}")


def by_turns(rates: list[Rate], rounds: int, seconds: float, warm_up_seconds: float) -> list[list[float]]:
    for rate in rates:
        rate(warm_up_seconds)
    turns = [[rate(seconds) for rate in rates] for _ in range(rounds)]
    return [list(column) for column in zip(*turns, strict=True)]


def figures(rates: list[float]) -> str:
    return f"{statistics.median(rates):.2f}"


def ratio(these: list[float], those: list[float]) -> str:
    """Of the turns of one round."""
    ratios = [one / other for one, other in zip(these, those, strict=True)]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


if __name__ == "__main__":
    main()
