import math
import os
import sys
from pathlib import Path
from typing import Any

import click

from visionserve.bench import report
from visionserve.bench.endpoint import Endpoint
from visionserve.bench.images import load_image
from visionserve.bench.load import check_reachable, run_load
from visionserve.bench.metrics import fold
from visionserve.bench.pacing import FixedCount, Pacer, UntilDeadline
from visionserve.bench.plan import Plan
from visionserve.bench.workload import ImageBatch
from visionserve.errors import UsageError, VisionserveError
from visionserve.files import write_atomically

INTERRUPTED = 130
HOUR_S = 3600
WEEK_S = 7 * 24 * HOUR_S


class Seconds(click.FloatRange):
    """More than 0 and at most `max`; nan, which no comparison refuses, is refused too."""

    name = "seconds"

    def __init__(self, max: int) -> None:
        super().__init__(min=0, max=max, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


EPILOG = """\b
Example: 2 processes with 8 clients each, for 30 seconds
  throughput_test.py -w 2 -t 8 -i 30 cat.jpg http://localhost:8888/
"""


@click.command(epilog=EPILOG)
@click.argument("img_url", metavar="IMG_URL", envvar="IMG_URL")
@click.argument("endpoint", metavar="ENDPOINT", envvar="ENDPOINT")
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that send requests.",
)
@click.option(
    "-t",
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Concurrent clients in each process, one connection each.",
)
@click.option(
    "-s",
    "--samples",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Requests that each client sends.",
)
@click.option(
    "-i",
    "--time-based",
    type=Seconds(max=WEEK_S),
    help="Send for so many seconds instead of counting samples; -s is ignored then.",
)
@click.option(
    "-b",
    "--batch-size",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Images in each request.",
)
@click.option(
    "--timeout",
    type=Seconds(max=HOUR_S),
    default=60,
    show_default=True,
    help="How long a request may take before it counts as failed.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the figures to this file, as JSON.",
)
def throughput_test(
    *,
    img_url: str,
    endpoint: str,
    workers: int,
    threads: int,
    samples: int,
    time_based: float | None,
    batch_size: int,
    timeout: float,
    json_file: Path | None,
) -> int:
    """Measure how many images a second the API at ENDPOINT classifies.

    IMG_URL is the image to send: an http(s) or file:// URL, or a path. Each request is a POST of
    {"imgs": [base64, ...]}; each client sends its next request when the last one was answered. Requests that fail
    are listed by kind and never counted as inferences.

    Both arguments may come from the environment variables IMG_URL and ENDPOINT instead.

    Exit code: 0 when every request was served, 1 when any failed, 2 when no load was sent, 130 after Ctrl-C.
    """
    pacer: Pacer = FixedCount(samples) if time_based is None else UntilDeadline(time_based)
    target = Endpoint.parse(endpoint)
    if json_file is not None:
        _check_writable(json_file)
    plan = Plan(target, ImageBatch(load_image(img_url), batch_size), pacer, workers, threads, timeout)
    check_reachable(plan)
    click.echo(report.heading(plan))
    metrics = fold(run_load(plan))
    click.echo(report.text(metrics))
    if json_file is not None:
        write_atomically(json_file, report.document(metrics, plan))
    if metrics.interrupted:
        return INTERRUPTED
    return 0 if metrics.ok else 1


def main() -> None:
    """The command: one sentence on stderr and the exit code of the error when something is wrong."""
    try:
        code = throughput_test.main(standalone_mode=False)
    except click.UsageError as error:
        hint = "" if error.ctx is None else f" {error.ctx.info_name} --help shows an example."
        code = _fail(f"{error.format_message().rstrip('.')}.{hint}", error.exit_code)
    except VisionserveError as error:
        code = _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        code = _fail("Interrupted before any load was sent.", INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads stdout any more (`| head`); the interpreter must not try to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _fail(sentence: str, code: int) -> int:
    click.echo(f"Error: {sentence}", err=True)
    return code


def _check_writable(path: Path) -> None:
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise UsageError(f"--json {path} cannot be written: {folder} is not a folder that you may write to.")
