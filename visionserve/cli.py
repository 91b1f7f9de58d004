from pathlib import Path

import click

import visionserve
from visionserve.bench.compare import compare
from visionserve.commands import SentenceGroup
from visionserve.models.cli.export import export
from visionserve.models.cli.publish import publish
from visionserve.models.cli.weights import weights
from visionserve.services.dcf.command import dcf
from visionserve.services.function.command import function
from visionserve.services.rest.command import rest


@click.group(cls=SentenceGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(visionserve.__version__)
def main() -> None:
    """Gets ResNet50's weights, makes builds of it, puts them into service, and compares what was measured of them.

    \b
    Example:
      visionserve export cpu
    """


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

    A model's folder holds a numbered folder for each version, or is a model itself. The highest version is
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


main.add_command(weights)
main.add_command(export)
main.add_command(publish)
main.add_command(compare)
main.add_command(rest)
main.add_command(function)
main.add_command(dcf)

if __name__ == "__main__":
    main()
