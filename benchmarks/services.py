"""The other front doors beside the bare engine, by turns; and how soon the function answers."""

import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import front_doors
from bare import BareEngine
from deployment import REPOSITORY, machine, write_photo
from front_doors import FrontDoor
from load import LoadError

DOORS = ("rest", "function", "events", "dcf")
DUE = 0.9


@click.command()
@click.option("--door", "names", multiple=True, type=click.Choice(DOORS), default=DOORS, show_default=True)
@click.option("--engine", type=click.Choice(["openvino", "tensorflow"]), default="openvino", show_default=True)
@click.option("--rounds", default=11, show_default=True, help="Turns of the front door.")
@click.option("--seconds", default=6.0, show_default=True, help="Length of a turn; of the bare engine's, half of it.")
@click.option("--warm-up-seconds", default=3.0, show_default=True, help="Load before the first turn.")
@click.option("--clients", default=8, show_default=True, help="Connections, or threads of the handler.")
@click.option("--costs/--no-costs", default=True, show_default=True, help="CPU time of a request without a model.")
@click.option("--starts", default=5, show_default=True, help="Cold starts of the function.")
def main(
    names: tuple[str, ...],
    engine: str,
    rounds: int,
    seconds: float,
    warm_up_seconds: float,
    clients: int,
    costs: bool,
    starts: int,
) -> None:
    """Measure the REST classifier, the Knative function and DCF's handler beside the bare engine.

    The bare engine at its best batch size and the front door take turns, one idle while the other is measured. A ratio
    is of the front door's turn over the mean of the bare engine's before and after it. `events` installs Debian's Ceph
    where it may.

    Example: scripts/bench services --door rest --rounds 3
    """
    click.echo(f"machine: {machine()}, {engine}, {clients} clients")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        write_photo(photo)
        for name in names:
            try:
                with front_door(name, photo) as door:
                    if rounds:
                        compare(door, engine, rounds, seconds, warm_up_seconds, clients)
                    if costs and isinstance(door, front_doors.HttpDoor):
                        show_costs(door, clients, seconds)
            except LoadError as error:
                click.echo(f"{name}: void: {error}")
                failed = True
        if "function" in names and starts:
            cold_starts(front_doors.function(photo), engine, starts)
    sys.exit(failed)


@contextmanager
def front_door(name: str, photo: Path) -> Iterator[FrontDoor]:
    if name == "rest":
        yield front_doors.rest(photo)
    elif name == "function":
        yield front_doors.function(photo)
    elif name == "dcf":
        yield front_doors.HandlerDoor(photo, "cat")
    else:
        with stored(photo) as environment:
            yield front_doors.notified_function(photo, environment)


@contextmanager
def stored(photo: Path) -> Iterator[dict[str, str]]:
    """The photo, by its file's name, in a bucket of a real Ceph: what the function needs to read it."""
    sys.path.insert(0, str(REPOSITORY))
    import pytest

    from tests.ceph import started_ceph

    running = started_ceph()
    try:
        ceph = next(running)
    except pytest.skip.Exception as reason:
        raise LoadError(str(reason)) from reason
    try:
        client = ceph.client()
        client.create_bucket(Bucket=front_doors.BUCKET)
        client.upload_file(str(photo), front_doors.BUCKET, photo.name)
        yield {
            "S3_ENABLED": "true",
            "S3_ACCESS_KEY": ceph.access_key,
            "S3_SECRET_KEY": ceph.secret_key,
            "S3_ENDPOINT_URL": ceph.endpoint,
            "S3_BUCKET_NAME": front_doors.BUCKET,
            "S3_AWS_REGION": ceph.region,
        }
    finally:
        running.close()


def compare(door: FrontDoor, engine: str, rounds: int, seconds: float, warm_up_seconds: float, clients: int) -> None:
    click.echo(f"\n{door.title}, images/s")
    ratios = []
    with BareEngine(engine, door.model) as bare, door.up(engine, clients) as rate:
        batch = max(door.batches, key=lambda size: bare.images_per_s(size, warm_up_seconds))
        rate(warm_up_seconds)
        before = bare.images_per_s(batch, seconds / 2)
        for number in range(rounds):
            served = rate(seconds)
            after = bare.images_per_s(batch, seconds / 2)
            ratios.append(served / statistics.mean([before, after]))
            turns = f"{before:.2f} and {after:.2f}, between them {served:.2f}"
            click.echo(f"  {number + 1}/{rounds}: bare at batch {batch} {turns}")
            before = after
    median = statistics.median(ratios)
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    verdict = "met" if median >= DUE else "NOT MET"
    click.echo(f"  {door.name} / bare: {median:.3f} ({spread}), due at least {DUE:g}: {verdict}")


def show_costs(door: front_doors.HttpDoor, clients: int, seconds: float) -> None:
    click.echo(f"{door.title}, without a model, CPU ms of one request by process")
    for name, spent in door.costs(clients, seconds).items():
        click.echo(f"  {spent:6.2f}  {name}")


def cold_starts(door: front_doors.HttpDoor, engine: str, starts: int) -> None:
    seconds = []
    for _ in range(starts):
        with door.started(engine) as (_, took):
            seconds.append(took)
    spread = f"min {min(seconds):.1f}, max {max(seconds):.1f}, {starts} times"
    click.echo(
        f"\nfunction's process started to its first answer: median {statistics.median(seconds):.1f} s ({spread})"
    )


if __name__ == "__main__":
    main()
