"""OpenVINO builds beside the CPU build in fp32: images/s by turns, agreement and size."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click
from builds import loaded
from deployment import REPOSITORY, machine

from visionserve.cores import available_cores
from visionserve.inference.model_folder import find_version
from visionserve.models.builds.folder import size
from visionserve.models.builds.manifest import read_manifest

WORK = REPOSITORY / "build" / "quantization"
FP32 = "fp32"
VARIANTS = {
    "fp16 weights": (),
    "int8, first layer in 7 bits": ("--int8", "--overflow-fix", "first-layer"),
    "int8, all layers in 7 bits": ("--int8", "--overflow-fix", "all-layers"),
    "int8, 8 bits": ("--int8", "--overflow-fix", "none"),
}
BATCHES = (1, 8)

Rates = dict[str, dict[int, list[float]]]


@click.command()
@click.option("--calibration", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Pictures for int8.")
@click.option(
    "--evaluation", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Pictures to compare."
)
@click.option("--isa", help="The most that oneDNN may use of this CPU, such as AVX2, to stand in for one without VNNI.")
@click.option("--rounds", default=10, show_default=True, help="Turns of each build at each batch size.")
@click.option("--images", default=16, show_default=True, help="Images of one turn, in calls of the batch size.")
@click.option("--threads", default=available_cores(), show_default=True, help="Cores of the engine.")
def main(
    calibration: Path | None, evaluation: Path | None, isa: str | None, rounds: int, images: int, threads: int
) -> None:
    """Make OpenVINO's builds and compare them with fp32.

    Without folders, 300 squares of scikit-image's photographs are learned from and 300 others compared on. A rate is of
    a turn's quickest call, a ratio of two turns of the same round, and agreement what visionserve export openvino says.

    Example: scripts/bench quantization --isa AVX2
    """
    if isa:
        os.environ["ONEDNN_MAX_CPU_ISA"] = isa
    if calibration is None or evaluation is None:
        crops = photographs()
        calibration, evaluation = calibration or crops / "calibration", evaluation or crops / "evaluation"
    click.echo(f"{machine()}, {threads} threads{f', at most {isa}' if isa else ''}")
    builds = {FP32: find_version(REPOSITORY / "models" / "resnet50")[1]}
    for number, (name, options) in enumerate(VARIANTS.items()):
        builds[name] = WORK / (isa or "all") / str(number)
        export(builds[name], calibration, evaluation, options)
    click.echo("\n".join(table(builds, measure(builds, rounds, images, threads))))


def photographs() -> Path:
    """Folders of different squares, `calibration` and `evaluation`, written the first time."""
    folder = WORK / "photographs"
    if not folder.is_dir():
        sys.path.append(str(REPOSITORY))
        from tests.photos import crops, encoded

        for number, square in enumerate(crops(600)):
            file = folder / ("calibration" if number < 300 else "evaluation") / f"{number:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded(square))
    return folder


def export(folder: Path, calibration: Path, evaluation: Path, options: tuple[str, ...]) -> None:
    """By the command; what is there of the same pictures stays."""
    command = [sys.executable, "-m", "visionserve.cli", "export", "openvino", "--output", str(folder), *options]
    command += ["--evaluation", str(evaluation), "--min-agreement", "0"]
    if options:
        command += ["--calibration", str(calibration)]
    subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)


def measure(builds: dict[str, Path], rounds: int, images: int, threads: int) -> Rates:
    rates: Rates = {name: {batch: [] for batch in BATCHES} for name in builds}
    with ExitStack() as stack:
        running = {name: stack.enter_context(loaded("openvino", folder, threads)) for name, folder in builds.items()}
        for batch in BATCHES:
            for build in running.values():
                build.turn(batch, 2)
            for number in range(rounds):
                first = number % len(builds)
                for name in [*running][first:] + [*running][:first]:
                    answer = running[name].turn(batch, max(1, images // batch))
                    rates[name][batch].append(answer["images_per_s"])
    return rates


def table(builds: dict[str, Path], rates: Rates) -> Iterator[str]:
    columns = "".join(f" batch {batch} | over {FP32} |" for batch in BATCHES)
    yield f"\n| images/s |{columns} top-1 | top-5 | largest difference | MB |"
    yield "|---" * (2 * len(BATCHES) + 5) + "|"
    for name, folder in builds.items():
        cells = []
        for batch in BATCHES:
            ratios = [mine / base for mine, base in zip(rates[name][batch], rates[FP32][batch], strict=True)]
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
            cells += [f"{statistics.median(rates[name][batch]):.1f}", f"{statistics.median(ratios):.2f} {spread}"]
        agreement = read_manifest(folder).agreement
        if agreement is None:
            cells += ["", "", ""]
        else:
            cells += [f"{agreement.top1:.1%}", f"{agreement.top5:.1%}", f"{agreement.largest_difference:.2g}"]
        yield f"| {name} | {' | '.join(cells)} | {size(folder) / 1e6:.1f} |"


if __name__ == "__main__":
    main()
