"""The benchmark's own client: its CPU beside other load generators', its steadiness, its memory."""

import base64
import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import cv2
from cases import Goal
from clients.generators import FOLDER, PEERS, Errand, Generator, Ours
from clients.light import CASE, compare
from clients.nginx import answering, find_nginx
from clients.steady import delaying, repeat
from deployment import machine, sample_photo
from load import LoadError
from memory import say_ratio
from results import CaseResult
from tables import table

from visionserve.files import write_atomically

CASES = ("light", "steady", "memory")
BODY_BYTES = 60_000
DELAY_MS = 50
FEW = 100_000
STEADY_GOAL = Goal("min", 1.03, at_most=True)
GROWTH_GOAL = Goal("few", 1.05, at_most=True)


class NginxMissing(click.ClickException):
    exit_code = 3

    def __init__(self) -> None:
        super().__init__("nginx is not installed; install the package nginx-light (sudo apt-get install nginx-light).")


class Figures:
    """What was measured so far; written whole at every change."""

    def __init__(self, settings: dict[str, Any], file: Path | None) -> None:
        self._data: dict[str, Any] = {"machine": machine(), **settings, "cases": {}}
        self._file = file

    def keep(self, case: str, measured: dict[str, Any]) -> None:
        self._data["cases"][case] = measured
        if self._file is not None:
            write_atomically(self._file, json.dumps(self._data, indent=2).encode())


@click.command()
@click.option("--case", "cases", multiple=True, type=click.Choice(CASES), help="Default: all.")
@click.option("--peer", "peers", multiple=True, type=click.Choice([peer.name for peer in PEERS]), help="Default: all.")
@click.option("--no-peers", is_flag=True, help="Only throughput_test.py.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Turns of each generator.")
@click.option("--seconds", type=click.FloatRange(min=0.5), default=10, show_default=True, help="Length of one turn.")
@click.option("--connections", type=click.IntRange(min=1), default=8, show_default=True, help="In each generator.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="-w of throughput_test.py.")
@click.option("--latencies", type=click.IntRange(min=2 * FEW), default=10_000_000, show_default=True, help="To record.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here, after each round.")
def main(
    cases: tuple[str, ...],
    peers: tuple[str, ...],
    no_peers: bool,
    rounds: int,
    seconds: float,
    connections: int,
    workers: int,
    latencies: int,
    json_file: Path | None,
) -> None:
    """Measure what throughput_test.py itself costs.

    light: answered requests per second of a generator's CPU (user and system, all of its processes) beside hey, Locust
    and the loop requests.post(...), by turns. All post the same bytes to one nginx on this machine, from as many
    connections; the loop is one thread with one. A turn is what a run of --seconds does and takes beyond a run of a
    tenth of that: start-up is in both and cancels. A generator that fails a single request is void.

    steady: inferences/s of a server that answers after 50 ms, measured --rounds times.

    memory: resident memory after recording 100,000 latencies and after --latencies.

    Exit code 3 when nginx is not here.

    Example: scripts/bench client --case light --peer hey --rounds 3 --seconds 5 --json client.json
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if connections % workers:
        raise click.BadParameter(f"{connections} connections do not divide evenly among {workers} workers.")
    chosen = cases or CASES
    nginx = find_nginx()
    if "light" in chosen and nginx is None:
        raise NginxMissing
    ours = Ours(workers)
    generators = [ours, *(peer for peer in PEERS if not no_peers and (not peers or peer.name in peers))]
    with tempfile.TemporaryDirectory() as folder:
        errand = prepare(Path(folder), connections)
        body_bytes = errand.body.stat().st_size
        settings = {"rounds": rounds, "seconds": seconds, "connections": connections, "body_bytes": body_bytes}
        figures = Figures(settings, json_file)
        click.echo(f"machine: {machine()}\nbody: {body_bytes} bytes")
        try:
            if "light" in chosen and nginx is not None:
                light(generators, errand, nginx, rounds, seconds, figures)
            if "steady" in chosen:
                steady(ours, errand, rounds, seconds, figures)
            if "memory" in chosen:
                memory(latencies, figures)
        except LoadError as error:
            raise click.ClickException(f"{error}.") from error


def prepare(folder: Path, connections: int) -> Errand:
    """The sample's photograph as a JPEG whose body, the same bytes as our client's, is nearest to BODY_BYTES."""
    pixels = cv2.resize(sample_photo(), CASE.size, interpolation=cv2.INTER_CUBIC)
    encoded = (cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for quality in range(50, 96))
    photo = min((image.tobytes() for image in encoded), key=lambda data: abs(len(data) * 4 / 3 - BODY_BYTES))
    errand = Errand("", folder / "photo.jpg", folder / "body.json", connections)
    errand.photo.write_bytes(photo)
    errand.body.write_text(json.dumps({"imgs": [base64.b64encode(photo).decode()]}, separators=(",", ":")))
    return errand


def light(
    generators: list[Generator], errand: Errand, nginx: str, rounds: int, seconds: float, figures: Figures
) -> None:
    def keep(result: CaseResult) -> None:
        figures.keep("light", result.as_data())

    with answering(nginx, errand.body.stat().st_size) as url:
        result = compare(generators, replace(errand, url=url), rounds, seconds, click.echo, keep)
    click.echo("\n" + "\n".join(table(result)) + "\n")


def steady(ours: Ours, errand: Errand, rounds: int, seconds: float, figures: Figures) -> None:
    with delaying(DELAY_MS) as url:
        rates = repeat(ours, replace(errand, url=url), rounds, seconds, click.echo)
    figures.keep("steady", {"delay_ms": DELAY_MS, "inferences_per_s": rates})
    say_ratio(f"steady: inferences/s of {rounds} runs, max / min", [max(rates) / min(rates)], STEADY_GOAL)


def memory(latencies: int, figures: Figures) -> None:
    command = [sys.executable, str(FOLDER / "recording.py"), str(latencies), str(FEW)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise LoadError(f"recording ended with status {done.returncode}")
    after_few, after_all = json.loads(done.stdout)
    figures.keep("memory", {"resident_mib": {FEW: after_few, latencies: after_all}})
    click.echo(f"memory: {after_few:.1f} MiB after {FEW:,} latencies, {after_all:.1f} MiB after {latencies:,}")
    say_ratio(f"memory: after {latencies:,} / after {FEW:,}", [after_all / after_few], GROWTH_GOAL)


if __name__ == "__main__":
    main()
