from pathlib import Path
from typing import Any

import click

from visionserve.errors import MissingError, install_command

NEEDS = ("fastapi", "fastapi_offline", "pydantic_settings")


@click.command()
@click.option("--host", help="The address to listen on; 0.0.0.0 for all.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="The port to listen on.  [default: 5000]")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="A YAML file of models and their routes; without it, models/resnet50 at /classify/resnet.",
)
@click.option(
    "--tensorflow-serving",
    metavar="ADDRESS",
    help="Ask this TensorFlow Serving instead of starting a model server: HOST:PORT (gRPC) or http://HOST:PORT (REST); "
    "with one route, /MODEL or /v1/models/MODEL after it names its model there.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "tensorflow", "openvino", "null"]),
    help="What runs the models of the model server that is started.  [default: auto]",
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds for an answer.  [default: 60]")
@click.option("--max-upload-bytes", type=click.IntRange(min=1), help="The largest request body.  [default: 33554432]")
@click.option("--max-pixels", type=click.IntRange(min=1), help="The largest image, in pixels.  [default: 50000000]")
@click.option("--max-in-flight", type=click.IntRange(min=1), help="Requests at once; more get 503.  [default: 256]")
def rest(**options: Any) -> None:
    """Classifies uploaded images over HTTP with models of a model server, until Ctrl-C or SIGTERM.

    Each option also comes from the environment or the file .env, as REST_PORT or REST_TENSORFLOW_SERVING.
    /docs shows how to ask, /classify which models there are, /healthz whether all of them answer.

    \b
    Examples:
      visionserve rest
      curl -F image=@photo.jpg "http://127.0.0.1:5000/classify/resnet?detail=true"
      visionserve rest --tensorflow-serving localhost:8500 --config models.yaml
    """
    try:
        from visionserve.services.rest.server import run
        from visionserve.services.rest.settings import read_settings
    except ModuleNotFoundError as error:
        if error.name not in NEEDS:
            raise
        raise MissingError(f"{error.name} is not installed: run {install_command('rest')}.") from error
    run(read_settings({name: value for name, value in options.items() if value is not None}))
