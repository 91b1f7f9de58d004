import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from visionserve import __version__
from visionserve.commands import SentenceGroup
from visionserve.cortex.manifests.command import export_manifest
from visionserve.errors import DeploymentError, UsageError

if TYPE_CHECKING:
    from visionserve.cortex.spec.api import ApiSpec

# Imports of the runtime stay inside the commands: --help and mistyped options answer at once.

WATCH_SECONDS = 2.0
ENVIRONMENTS = click.Choice(["local", "ray"])
api_key_file = click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help="A file of API keys, one a line; without it, the key in CORTEX_API_KEY if that is set.",
)
where = click.option("--env", "environment", type=ENVIRONMENTS, help="Only on this machine, or only on Ray.")


@click.group(cls=SentenceGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run Cortex API specs on this machine, or on a Ray cluster, without Docker or AWS."""


@main.command()
@click.argument("file", type=click.Path(path_type=Path), default="cortex.yaml")
@click.option("--env", "environment", type=ENVIRONMENTS, default="local", show_default=True, help="Where to run it.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "tensorflow", "openvino", "null"]),
    default="auto",
    show_default=True,
    help="What runs the model; auto takes the fastest that is installed, null answers without a model.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Instead of the spec's local_port.")
@click.option("--host", help="The address to listen on.  [default: 127.0.0.1]")
@click.option("--compute", type=click.Choice(["cpu"]), help="Run a GPU or Inferentia spec on the CPU.")
@click.option(
    "--tensorflow-serving",
    metavar="HOST:PORT[/MODEL]",
    help="Ask a TensorFlow Serving elsewhere over gRPC; MODEL is its name there, else the folder's in model_path.",
)
@api_key_file
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Lines for people, or one JSON object a line for a log shipper.",
)
@click.option("--access-log/--no-access-log", default=True, show_default=True, help="A line for each request.")
@click.option("--force", is_flag=True, help="Roll the API even where nothing has changed.")
@click.option("--foreground", is_flag=True, help="Stay, show the logs, and delete the APIs on Ctrl-C.")
def deploy(
    file: Path,
    environment: str,
    engine: str,
    port: int | None,
    host: str | None,
    compute: str | None,
    tensorflow_serving: str | None,
    api_key_file: Path | None,
    log_format: str,
    access_log: bool,
    force: bool,
    foreground: bool,
) -> None:
    """Deploy the APIs in FILE and wait until they are live; a running API is rolled without losing a request.

    Example: cortex deploy cortex_cpu.yaml
    """
    from visionserve.cortex.api_key import digests, read_keys
    from visionserve.cortex.environments import deployer
    from visionserve.cortex.spec.file import load_specs

    if foreground:
        # A container is stopped by SIGTERM.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    specs = load_specs(file)
    if port is not None and len(specs) > 1:
        raise UsageError(f"--port fits a file with one API, but {file} has {len(specs)}: set networking.local_port.")
    deploy_one = deployer(
        environment,
        partial(click.echo, err=True),
        host,
        engine=engine,
        port=port,
        force=force,
        on_cpu=compute == "cpu",
        tensorflow_serving=tensorflow_serving,
        api_keys=tuple(digests(read_keys(api_key_file))),
        log_format=log_format,
        access_log=access_log,
    )
    if not foreground:
        for spec in specs:
            _deploy(spec, deploy_one)
        return
    from visionserve.cortex.foreground import Foreground

    with Foreground([spec.name for spec in specs], environment, partial(click.echo, err=True)) as stay:
        for spec in specs:
            _deploy(spec, partial(stay.deploy, deploy_one=deploy_one))
        with suppress(KeyboardInterrupt):
            stay.show(partial(click.echo, nl=False))


@main.command()
@click.argument("name", required=False)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("-w", "--watch", is_flag=True, help=f"Show it again every {WATCH_SECONDS:g} s, until Ctrl-C.")
@where
def get(name: str | None, output: str, watch: bool, environment: str | None) -> None:
    """Show the deployed APIs, or one of them with an example request.

    Example: cortex get image-classifier-resnet50
    """
    from visionserve.cortex.environments import needs_key, overview
    from visionserve.cortex.overview import Row, table
    from visionserve.cortex.watch import watch as watched

    def show(rows: list[Row]) -> None:
        if output == "json":
            # A line each time: what reads them need not guess where the next begins.
            click.echo(json.dumps([row.model_dump(mode="json") for row in rows], indent=None if watch else 2))
            return
        text = table(rows, watch)
        if watch:
            click.clear()
            click.echo(f"{datetime.now(timezone.utc):%H:%M:%S} UTC")
        click.echo(text, nl=False)
        if name is not None:
            from visionserve.cortex.api_key import VARIABLE

            key = f' -H "Authorization: Bearer ${VARIABLE}"' if needs_key(name, environment) else ""
            click.echo(f'\ncurl {rows[0].endpoint}{key} -H "Content-Type: application/json" -d @sample.json')

    if not watch:
        show(overview(name, environment))
        return
    for rows in watched(lambda: overview(name, environment), WATCH_SECONDS):
        show(rows)


@main.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, until Ctrl-C.")
@where
def logs(name: str, follow: bool, environment: str | None) -> None:
    """Print the log of an API: its supervisor's, its model server's and its workers' lines, or its Ray replicas'.

    Example: cortex logs image-classifier-resnet50 -f
    """
    from visionserve.cortex.environments import log_lines

    for line in log_lines(name, environment, follow):
        click.echo(line, nl=False)


@main.command()
@click.argument("name")
@where
def delete(name: str, environment: str | None) -> None:
    """Stop an API: what is in flight is answered first.

    Example: cortex delete image-classifier-resnet50
    """
    from visionserve.cortex.environments import delete as delete_api

    delete_api(name, environment)
    click.echo(f"deleted {name}")


@main.command()
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--scores", is_flag=True, help="With the probability of each label.")
@api_key_file
@where
def predict(name: str, file: Path, scores: bool, api_key_file: Path | None, environment: str | None) -> None:
    """Post FILE, JSON or an image, to a running API and print the answer.

    Example: cortex predict image-classifier-resnet50 sample.json
    """
    import requests

    from visionserve.cortex.api_key import authorization, read_keys
    from visionserve.cortex.environments import endpoint_of

    key = authorization(read_keys(api_key_file))
    endpoint = endpoint_of(name, environment)
    try:
        answer = requests.post(
            endpoint,
            data=file.read_bytes(),
            params={"scores": "true"} if scores else None,
            headers={"content-type": content_type(file), **key},
            timeout=120,
        )
    except requests.RequestException as error:
        raise DeploymentError(f"{name} at {endpoint} does not answer: {error}.") from error
    if not answer.ok:
        raise DeploymentError(f"{name} answered {answer.status_code}: {answer.text}")
    _print_answer(answer.content)


@main.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option("-d", "--data", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--engine", type=click.Choice(["auto", "tensorflow", "openvino", "null"]), default="auto")
@click.option("--name", help="Which API, in a file with several.")
def test(spec: Path, file: Path, engine: str, name: str | None) -> None:
    """Run the predictor of SPEC once on a file, in this process, with no server.

    Example: cortex test cortex_cpu.yaml -d sample.json
    """
    from visionserve.cortex.dry_run import dry_run
    from visionserve.cortex.spec.file import load_specs

    specs = {api.name: api for api in load_specs(spec)}
    if name is None and len(specs) > 1:
        raise UsageError(f"{spec} has several APIs: add --name with one of {', '.join(specs)}.")
    if name is not None and name not in specs:
        raise UsageError(f"{spec} has no API {name}: it has {', '.join(specs)}.")
    data = file.read_bytes()
    response = dry_run(specs[name] if name else next(iter(specs.values())), data, content_type(file), engine)
    if response.status_code >= 400:
        raise DeploymentError(f"The predictor answered {response.status_code}: {bytes(response.body).decode()}")
    _print_answer(bytes(response.body))


@main.command()
def version() -> None:
    """Print the version.

    Example: cortex version
    """
    click.echo(f"visionserve {__version__}, running API specs of Cortex 0.20")


main.add_command(export_manifest)


def content_type(file: Path) -> str:
    return "application/json" if file.suffix.lower() == ".json" else "application/octet-stream"


def _deploy(spec: "ApiSpec", deploy_one: "Callable[[ApiSpec], Any]") -> None:
    """With what there is to say of it."""
    started = time.monotonic()
    outcome = deploy_one(spec)
    deployment = outcome.deployment
    for note in outcome.notes:
        click.echo(f"note: {note}", err=True)
    engine_said = f" with the engine {deployment.engine}" if deployment.engine else ""
    if outcome.action == "unchanged":
        click.echo(f"{spec.name} is up to date at {deployment.endpoint} (--force rolls it anyway)")
    else:
        seconds = time.monotonic() - started
        click.echo(f"{outcome.action} {spec.name}{engine_said}: live at {deployment.endpoint} after {seconds:.1f} s")


def _print_answer(body: bytes) -> None:
    try:
        value: Any = json.loads(body)
    except ValueError:
        sys.stdout.buffer.write(body + b"\n")
        return
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
