from pathlib import Path

import click

from visionserve.models.cli.weights import WEIGHTS


@click.command()
@WEIGHTS
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("models/resnet50/1"),
    show_default=True,
    help="The version folder to write.",
)
@click.option(
    "--sample",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("sample.json"),
    show_default=True,
    help='A {"img": "<base64>"} file that the build must classify as Keras does.',
)
@click.option("--force", is_flag=True, help="Export again even if the same model is there.")
def cpu(file: Path | None, output: Path, sample: Path, force: bool) -> None:
    """Writes a TensorFlow SavedModel, loads it back and classifies the sample with it.

    Its signature serving_default takes `input`, uint8 RGB [N, 224, 224, 3], and gives `output`, probabilities
    [N, 1000]. A model.json beside it records what it was made of.

    \b
    Examples:
      visionserve export cpu
      visionserve export cpu --weights resnet50.h5 --output models/mine/1
    """
    from visionserve.models.builds.cpu.export import export_cpu, is_exported
    from visionserve.models.builds.pictures import sample_pixels
    from visionserve.models.weights import find_weights

    pixels = sample_pixels(sample)
    found = find_weights(file)
    click.echo(f"weights from {found.source}")
    if not force and is_exported(found, output):
        click.echo(f"{output} holds this model already; --force exports it again")
        return
    exported = export_cpu(found, output, pixels)
    click.echo(f"wrote {exported.folder}, {exported.size / 1e6:.0f} MB")
    click.echo(f"{sample}, equal to Keras's answer within {exported.difference:.1e}:")
    for label, probability in exported.labels:
        click.echo(f"  {probability:.3f}  {label}")
