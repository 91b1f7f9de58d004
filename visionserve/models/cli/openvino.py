import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from visionserve.models.cli import options

if TYPE_CHECKING:
    from visionserve.models.builds.openvino.export import Exported, Options

OVERFLOW_FIX = "first-layer"
OUTPUT = Path("models/resnet50_openvino/1")
INT8_OUTPUT = Path("models/resnet50_openvino_int8/1")
# Of fewer than a hundred pictures all; among more there may be one whose two likeliest classes are all but equal.
MIN_AGREEMENT, INT8_MIN_AGREEMENT = 0.99, 0.9


@click.command()
@options.MODEL
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help=f"The version folder to write.  [default: {OUTPUT}, with --int8 {INT8_OUTPUT}]",
)
@click.option("--int8", is_flag=True, help="Quantize to int8, in place of weights in FP16; it needs --calibration.")
@click.option(
    "--calibration",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of pictures like those to be classified; with --int8, which takes 300 of them at most.",
)
@click.option(
    "--overflow-fix",
    type=click.Choice(["first-layer", "all-layers", "none"]),
    help="With --int8: which layers get weights of 7 bits, so that sums do not saturate on CPUs without VNNI. "
    "first-layer is the more exact, with all-layers every CPU answers alike, none is for CPUs with VNNI only.  "
    f"[default: {OVERFLOW_FIX}]",
)
@click.option(
    "--evaluation",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of pictures to compare the build with fp32 on; without it those of --calibration, else the sample.",
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 1),
    help="Write no build that agrees with fp32's likeliest class on a smaller part of the pictures.  "
    f"[default: {MIN_AGREEMENT:g}, with --int8 {INT8_MIN_AGREEMENT:g}]",
)
@options.sample("without folders, the build is compared on it and on squares cut from it.")
@options.FORCE
def openvino(
    model: Path,
    output: Path | None,
    int8: bool,
    calibration: Path | None,
    overflow_fix: str | None,
    evaluation: Path | None,
    min_agreement: float | None,
    sample: Path,
    force: bool,
) -> None:
    """Converts the CPU build to OpenVINO's own format, which is smaller, and compares it with fp32.

    Weights are stored in FP16, and computed with in fp32. With --int8 NNCF quantizes the network, which is faster and
    less exact. The build is served as the CPU build is, by the engine openvino.

    \b
    Examples:
      visionserve export openvino
      visionserve export openvino --int8 --calibration photos --evaluation other-photos
    """
    from visionserve.models.builds.folder import find_cpu_build
    from visionserve.models.builds.openvino.export import export_openvino, is_exported

    if int8 and calibration is None:
        raise click.UsageError("--int8 needs --calibration FOLDER, with pictures like those to be classified.")
    if not int8 and (calibration is not None or overflow_fix is not None):
        raise click.UsageError(f"{'--calibration' if calibration else '--overflow-fix'} belongs to --int8: name both.")
    output = output or (INT8_OUTPUT if int8 else OUTPUT)
    if min_agreement is None:
        min_agreement = INT8_MIN_AGREEMENT if int8 else MIN_AGREEMENT
    chosen = _options(calibration, evaluation, sample, overflow_fix or OVERFLOW_FIX, min_agreement)
    version, manifest = find_cpu_build(model)
    if not force and is_exported(manifest, output, chosen):
        click.echo(f"{output} holds this build already; --force exports it again")
        return
    click.echo(f"{'quantizing' if int8 else 'converting'} {version}")
    try:
        exported = export_openvino(version, manifest, output, chosen)
    except KeyboardInterrupt:
        # OpenVINO's threads are still at work, and can abort a process that ends in the ordinary way.
        sys.stdout.flush()
        os._exit(130)
    _say(exported)
    if calibration and evaluation is None:
        click.echo("these are the pictures that it was calibrated with: name others with --evaluation")


def _options(
    calibration: Path | None, evaluation: Path | None, sample: Path, overflow_fix: str, min_agreement: float
) -> "Options":
    """Raises UsageError for a folder without pictures, or with one that is none, and MissingError."""
    from visionserve.models.builds.openvino.export import Options
    from visionserve.models.builds.openvino.model import import_openvino
    from visionserve.models.builds.openvino.quantization import MOST_PICTURES, import_nncf
    from visionserve.models.builds.pictures import folder_pictures, sample_pictures

    learned_from = None if calibration is None else folder_pictures(calibration, MOST_PICTURES)
    if evaluation is not None:
        compared_on = folder_pictures(evaluation)
    else:
        compared_on = sample_pictures(sample) if learned_from is None else learned_from
    import_openvino()
    if learned_from is not None:
        import_nncf()
    return Options(compared_on, min_agreement, learned_from, overflow_fix)


def _say(exported: "Exported") -> None:
    click.echo(f"wrote {exported.folder}, {exported.size / 1e6:.0f} MB")
    click.echo(f"agreement with fp32 on {exported.agreement}")
    for speed in exported.speeds:
        click.echo(
            f"batch {speed.batch}, {exported.threads} threads: {speed.build:.1f} images/s, "
            f"{speed.ratio:.2f} times fp32's {speed.reference:.1f} by turns"
        )
