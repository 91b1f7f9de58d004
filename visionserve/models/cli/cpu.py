from pathlib import Path

import click

from visionserve.models.cli import options
from visionserve.models.cli.weights import WEIGHTS


@click.command()
@WEIGHTS
@options.output("models/resnet50/1")
@options.sample("the build must classify it as Keras does.")
@options.FORCE
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
