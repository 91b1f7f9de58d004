"""The CPU build beside other ways to write it: images/s, seconds to load, memory and size."""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
from build_variants import EXPORTED, VARIANTS
from deployment import REPOSITORY, machine
from load import LoadError

from visionserve.cores import available_cores
from visionserve.models.builds.folder import size

ENGINES = ("openvino", "tensorflow")
BATCHES = (1, 4, 8)
BASE = VARIANTS[0]


class BuildEngine:
    """A build in build_engine.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.load_s = self._answer()["load_s"]

    def turn(self, batch: int, calls: int) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{batch} {calls}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        try:
            return json.loads(self._process.stdout.readline())
        except ValueError as error:
            raise LoadError(f"an engine ended with status {self._process.wait()}") from error


@dataclass
class Figures:
    """Of one build in one engine; `rates`: by batch, images/s of the quickest call of each round."""

    rates: dict[int, list[float]] = field(default_factory=lambda: {batch: [] for batch in BATCHES})
    load_s: list[float] = field(default_factory=list)
    resident_mib: float = 0
    peak_mib: float = 0


@click.command()
@click.option("--engine", "engines", multiple=True, type=click.Choice(ENGINES), default=ENGINES, show_default=True)
@click.option(
    "--variant", "variants", multiple=True, type=click.Choice(VARIANTS), help="Beside the first; default: all."
)
@click.option("--rounds", default=6, show_default=True, help="Turns of each build at each batch size.")
@click.option("--images", default=8, show_default=True, help="Images of one turn, in calls of the batch size.")
@click.option("--starts", default=2, show_default=True, help="Processes of each build, one after another.")
@click.option("--threads", default=available_cores(), show_default=True, help="Cores of the engine.")
def main(
    engines: tuple[str, ...], variants: tuple[str, ...], rounds: int, images: int, starts: int, threads: int
) -> None:
    """Compare ways to write the CPU build.

    All builds are loaded in processes of their own and asked by turns, in an order that rotates. A rate is of a turn's
    quickest call, and a ratio of two turns of the same round.

    Example: scripts/bench builds --engine tensorflow --rounds 20
    """
    chosen = [name for name in VARIANTS if name == BASE or not variants or name in variants]
    click.echo(f"{machine()}, {threads} threads; written by visionserve export cpu: {EXPORTED}")
    with tempfile.TemporaryDirectory() as folder:
        click.echo(export(Path(folder, "exported")))
        script = REPOSITORY / "benchmarks" / "build_variants.py"
        subprocess.run([sys.executable, str(script), folder], check=True, stderr=subprocess.DEVNULL)
        builds = {name: Path(folder, name) for name in chosen}
        for engine in engines:
            figures = measure(engine, builds, rounds, images, starts, threads)
            click.echo("\n".join(table(engine, builds, figures)))


def export(folder: Path) -> str:
    """What the command costs, in a process of its own."""
    started = time.monotonic()
    command = [sys.executable, "-m", "visionserve.cli", "export", "cpu", "--output", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    # Of the largest child so far, which this is the first of.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    seconds = time.monotonic() - started
    return f"visionserve export cpu: {seconds:.1f} s, {peak:.2f} GB, {size(folder) / 1e6:.1f} MB written"


def measure(
    engine: str, builds: dict[str, Path], rounds: int, images: int, starts: int, threads: int
) -> dict[str, Figures]:
    figures = {name: Figures() for name in builds}
    for _ in range(starts - 1):
        for name, folder in builds.items():
            with loaded(engine, folder, threads) as started:
                figures[name].load_s.append(started.load_s)
    with ExitStack() as stack:
        running = {name: stack.enter_context(loaded(engine, folder, threads)) for name, folder in builds.items()}
        for name, build in running.items():
            figures[name].load_s.append(build.load_s)
            for batch in BATCHES:
                build.turn(batch, 2)
        for number in range(rounds):
            first = number % len(builds)
            order = [*running][first:] + [*running][:first]
            for batch in BATCHES:
                for name in order:
                    answer = running[name].turn(batch, max(1, images // batch))
                    figures[name].rates[batch].append(answer["images_per_s"])
                    figures[name].resident_mib, figures[name].peak_mib = answer["resident_mib"], answer["peak_mib"]
    return figures


@contextmanager
def loaded(engine: str, folder: Path, threads: int) -> Iterator[BuildEngine]:
    script = REPOSITORY / "benchmarks" / "build_engine.py"
    command = [sys.executable, str(script), engine, str(folder), str(threads)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield BuildEngine(process)


def table(engine: str, builds: dict[str, Path], figures: dict[str, Figures]) -> Iterator[str]:
    columns = "".join(f" batch {batch} | over {BASE} |" for batch in BATCHES)
    yield f"\n| {engine} |{columns} load, s | resident, MiB | peak, MiB | disk, MB |"
    yield "|---" * (2 * len(BATCHES) + 5) + "|"
    for name, build in figures.items():
        cells = []
        for batch, rates in build.rates.items():
            ratios = [mine / base for mine, base in zip(rates, figures[BASE].rates[batch], strict=True)]
            cells += [f"{max(rates):.2f}", f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"]
        size = sum(path.stat().st_size for path in builds[name].rglob("*") if path.is_file()) / 1e6
        cells += [f"{min(build.load_s):.1f}", f"{build.resident_mib:.0f}", f"{build.peak_mib:.0f}", f"{size:.1f}"]
        yield f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
