"""Images/s through HTTP over the bare engine's, by turns in one run."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from deployment import REPOSITORY, deployed, machine, write_photo

BATCHES = (1, 2, 4, 8)


@click.command()
@click.option("--engine", "engines", multiple=True, default=("openvino", "tensorflow"), show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Turns of each side.")
@click.option("--seconds", default=15.0, show_default=True, help="Length of one turn.")
@click.option("--clients", default=8, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write every figure here.")
def main(engines: tuple[str, ...], rounds: int, seconds: float, clients: int, json_file: Path | None) -> None:
    """Measure what serving costs: HTTP with `throughput_test.py -w 1 -t 8` against the engine alone.

    The engine alone runs at the batch size that is its best on this machine. Each round is one turn of either.
    """
    click.echo(f"machine: {machine()}")
    results = {engine: measure(engine, rounds, seconds, clients) for engine in engines}
    click.echo(f"\n{'engine':12}{'bare':>8}{'HTTP':>8}{'HTTP/bare: median':>20}{'min':>8}{'max':>8}")
    for engine, rows in results.items():
        ratios = [row["http"] / row["bare"] for row in rows]
        bare, http = (statistics.median(row[side] for row in rows) for side in ("bare", "http"))
        median = statistics.median(ratios)
        click.echo(f"{engine:12}{bare:8.2f}{http:8.2f}{median:20.3f}{min(ratios):8.3f}{max(ratios):8.3f}")
    if json_file is not None:
        json_file.write_text(json.dumps({"machine": machine(), "clients": clients, "images_per_s": results}, indent=2))


def measure(engine: str, rounds: int, seconds: float, clients: int) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory() as work, deployed(engine) as deployment, BareEngine(engine) as bare:
        photo = Path(work, "photo.jpg")
        write_photo(photo)
        endpoint = deployment.row()["endpoint"]
        http(photo, endpoint, min(seconds, 5), clients)
        alone = {size: bare.images_per_s(size, seconds / 2) for size in BATCHES}
        batch = max(alone, key=lambda size: alone[size])
        rates = ", ".join(f"{size}: {rate:.2f}" for size, rate in alone.items())
        click.echo(f"{engine}: images/s alone by batch size {rates}; taking {batch}")
        rows = []
        for number in range(rounds):
            row = {"bare": bare.images_per_s(batch, seconds), "http": http(photo, endpoint, seconds, clients)}
            click.echo(f"{engine} {number + 1}/{rounds}: bare {row['bare']:.2f}, HTTP {row['http']:.2f} images/s")
            rows.append(row)
        return rows


def http(photo: Path, endpoint: str, seconds: float, clients: int) -> float:
    with tempfile.NamedTemporaryFile(suffix=".json") as figures:
        command = [sys.executable, str(REPOSITORY / "throughput_test.py"), "-w", "1", "-t", str(clients)]
        command += ["-i", str(seconds), "--json", figures.name, str(photo), endpoint]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(Path(figures.name).read_text())["inferences_per_s"]


class BareEngine:
    def __init__(self, engine: str) -> None:
        command = [sys.executable, str(REPOSITORY / "benchmarks" / "bare_engine.py"), engine]
        command.append(str(REPOSITORY / "models" / "resnet50"))
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "BareEngine":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def images_per_s(self, batch: int, seconds: float) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{batch} {seconds}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


if __name__ == "__main__":
    main()
