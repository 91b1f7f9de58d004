import re
from pathlib import Path
from typing import Any

import click

from visionserve.errors import UsageError, VisionserveError
from visionserve.streaming.interruption import raised_once
from visionserve.streaming.model_options import DEFAULT_INPUT_SHAPE, ModelOptions, numbers, shape
from visionserve.streaming.model_types import DEFAULT_MODEL_TYPE
from visionserve.streaming.rest_client import read_address
from visionserve.streaming.settings import StreamSettings

# Imports of OpenVINO, PyFlink and PyArrow stay out of the way of --help and mistyped options.

MODEL = Path("models/resnet50")
# Flink's own bound.
SHORTEST = 0.01
UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0}
# Rows come to the terminal with the checkpoints, so these are more frequent.
FILES_INTERVAL, TERMINAL_INTERVAL = 10.0, 1.0
# As a shell has it after Ctrl-C; SIGTERM gives it too.
INTERRUPTED = 130


class Duration(click.ParamType):
    """Seconds of "10s", "500ms" or "1min", SHORTEST at least."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *(ms|s|min)", value)
        seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
        if seconds < SHORTEST:
            self.fail(f"{value} is no duration of 10ms or more, such as 10s, 500ms or 1min.", param, ctx)
        return seconds


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--imageFolder",
    "image_folder",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder with the images, and the folders below it; all task managers see it at this path.",
)
@click.option("--modelType", "model_type", default=DEFAULT_MODEL_TYPE, show_default=True, help="What network it is.")
@click.option(
    "--checkpointPath",
    "checkpoint_path",
    type=click.Path(path_type=Path),
    default=MODEL,
    show_default=True,
    help="The model: a SavedModel's or an OpenVINO model's folder, or one with numbered versions. Workers are sent it.",
)
@click.option(
    "--inputShape",
    "input_shape",
    default=",".join(map(str, DEFAULT_INPUT_SHAPE)),
    show_default=True,
    help="1,HEIGHT,WIDTH,3 or 1,3,HEIGHT,WIDTH.",
)
@click.option(
    "--ifReverseInputChannels",
    "reverse",
    type=click.BOOL,
    help="Whether the model sees red, green, blue where pictures come as blue, green, red; else as its type has it.",
)
@click.option("--meanValues", "mean_values", help="Of the channels, such as 123.68,116.78,103.94; else its type's.")
@click.option("--scale", type=float, help="What pixels minus means are divided by; else its type's.")
@click.option("-p", "--parallelism", type=click.IntRange(min=1), help="Tasks that classify side by side.  [default: 1]")
@click.option("-m", "--jobmanager", "cluster", metavar="HOST:PORT", help="A running cluster; else one is embedded.")
@click.option("--watch", is_flag=True, help="Go on with images that come into the folder, until Ctrl-C.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="A folder for the rows, in place of the terminal.",
)
@click.option(
    "--format",
    type=click.Choice(["text", "jsonl", "parquet"]),
    help="Of the rows.  [default: text to the terminal, jsonl to a folder]",
)
@click.option(
    "--broken", type=click.Path(path_type=Path), help="A folder for the broken images' reasons, as JSON lines."
)
@click.option("--resume", is_flag=True, help="Classify only images that --output and --broken do not hold yet.")
@click.option("--threads", type=click.IntRange(min=1), help="Cores for each task; else its share of the machine's.")
@click.option(
    "--checkpointInterval",
    "checkpoint_interval",
    type=Duration(),
    help="Rows get into finished files as often, such as 500ms or 1min.  [default: 10s; to the terminal 1s]",
)
@click.option(
    "--checkpointFolder",
    "checkpoint_folder",
    help="Where checkpoints are kept, for instance file:///shared/checkpoints; else in the job manager's memory.",
)
@click.option("--pyExecutable", "py_executable", help="The workers' Python; else this one's path.")
@click.option(
    "--timeline", type=click.Path(dir_okay=False, path_type=Path), help="A PNG file for the job's time line and rate."
)
@click.option("--logFolder", "log_folder", type=click.Path(path_type=Path), help="Keep Flink's own log in this folder.")
@click.pass_context
def stream(
    ctx: click.Context,
    image_folder: Path,
    model_type: str,
    checkpoint_path: Path,
    input_shape: str,
    reverse: bool | None,
    mean_values: str | None,
    scale: float | None,
    cluster: str | None,
    checkpoint_interval: float | None,
    format: str | None,
    **others: Any,
) -> None:
    """Classifies a folder of images as a Flink job: five labels with their probabilities for each.

    On an embedded cluster, or with -m on a running one. Broken images do not stop the job. Rows in files are there
    exactly once, also when task managers die meanwhile.

    \b
    Examples:
      scripts/stream --imageFolder photos -p 2
      scripts/stream --imageFolder photos --watch --output labels --format parquet
      scripts/stream --imageFolder /shared/photos -m 10.0.0.7:8081 -p 8 --output /shared/labels --broken /shared/broken
    """
    try:
        means = None if mean_values is None else numbers(mean_values, "meanValues")
        settings = StreamSettings(
            image_folder=image_folder,
            checkpoint_path=checkpoint_path,
            model=ModelOptions(model_type, shape(input_shape), reverse, means, scale),
            cluster=read_address(cluster) if cluster else None,
            format=format or ("jsonl" if others["output"] else "text"),
            checkpoint_interval=checkpoint_interval or (FILES_INTERVAL if others["output"] else TERMINAL_INTERVAL),
            **others,
        )
        _check(settings)
        with raised_once():
            from visionserve.streaming.run import run

            ended = run(settings)
        ctx.exit(0 if ended or settings.watch else INTERRUPTED)
    except VisionserveError as error:
        click.echo(f"Error: {error}", err=True)
        ctx.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("Interrupted: no job is left behind.", err=True)
        ctx.exit(INTERRUPTED)


def _check(settings: StreamSettings) -> None:
    if settings.format == "parquet" and not settings.output:
        raise UsageError("--format parquet needs --output: Parquet is not for the terminal.")
    if settings.format == "text" and settings.output:
        raise UsageError("--format text is for the terminal: write jsonl or parquet to --output.")
    if settings.resume and not settings.output:
        raise UsageError("--resume needs --output, the folder of the run to go on with.")
    if settings.output and settings.broken and settings.output.absolute() == settings.broken.absolute():
        raise UsageError("--output and --broken need two folders.")
    if settings.timeline and settings.timeline.suffix != ".png":
        raise UsageError(f"--timeline {settings.timeline}: the picture is a PNG file, so end its name in .png.")


if __name__ == "__main__":
    stream()
