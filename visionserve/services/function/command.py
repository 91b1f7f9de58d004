from importlib.util import find_spec

import click

from visionserve.errors import MissingError, install_command

REQUIRED = ("func_python", "cloudevents", "pydantic_settings", "boto3")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    envvar="PORT",
    default=8080,
    show_default=True,
    show_envvar=True,
    help="The port of HTTP.",
)
def function(host: str, port: int) -> None:
    """Serves the Knative function until Ctrl-C or SIGTERM: names the picture that is asked for, or was uploaded.

    \b
    Environment:
      MODEL_PATH       the model's folder [models/resnet50]
      ENGINE           auto, openvino, tensorflow or null [auto]
      DATA_PATH        the folder of the images that GET names [deploy/knative/data]
      S3_ENABLED       whether events are taken [false]
      S3_ENDPOINT_URL, S3_AWS_REGION, S3_ACCESS_KEY, S3_SECRET_KEY
                       where S3 is, and the keys; without them those of boto3 [AWS, us-east-1]
      S3_BUCKET_NAME   the only bucket whose events count [all]
      S3_EVENT_NAME    the events that count, with commas between [ObjectCreated:*]
      MAX_IMAGE_BYTES  of an object [20000000]
    \b
    Example:
      visionserve function
      curl 'http://127.0.0.1:8080/?imageName=test1'
    """
    missing = [name for name in REQUIRED if find_spec(name) is None]
    if missing:
        raise MissingError(f"The function needs {', '.join(missing)}: run {install_command('functions')}.")
    from visionserve.log_lines import log_to_stderr
    from visionserve.services.function.classifier import find_model
    from visionserve.services.function.server import run
    from visionserve.services.function.settings import read_settings

    log_to_stderr()
    settings = read_settings()
    find_model(settings.model_path, settings.engine)
    run(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
