from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from visionserve.bench.parameters import GroupedOption, Positive
from visionserve.bench.workload.payloads import PAYLOADS, SIGNATURE

HOUR_S = 3600
WEEK_S = 7 * 24 * HOUR_S
DEFAULT_SECONDS = 10.0
SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")


@dataclass(frozen=True)
class Options:
    """What the user asked for, by the names of the command's parameters; times are in seconds."""

    img_url: str
    endpoint: str
    workers: int
    threads: int
    samples: int
    time_based: float | None
    batch_size: int
    warmup: float
    rate: float | None
    arrivals: str
    connections: int
    sweep: str | None
    slo: str | None
    payload: str
    signature: str
    headers: tuple[str, ...]
    insecure: bool
    timeout: float
    expect: str | None
    price: float | None
    json_file: Path | None
    csv_file: Path | None
    report_file: Path | None
    scenario: str | None
    accuracy: bool
    mlperf_log: Path


def _option(group: str, *names: str, **attributes: Any) -> Callable[[Any], Any]:
    if attributes.get("default") is not None and not attributes.get("is_flag"):
        attributes.setdefault("show_default", True)
    return click.option(*names, cls=GroupedOption, group=group, **attributes)


_FILE = click.Path(dir_okay=False, path_type=Path)
_LOAD = "Closed loop: each client sends its next request when the last one was answered"
_OPEN = "Open loop: requests are sent when they are due, and latency counts from then"
_RUNS = "Several runs"
_REQUESTS = "Requests and answers"
_FILES = "Results"
_MLPERF = "MLPerf: MLCommons' LoadGen drives the endpoint"

OPTIONS = (
    _option(_LOAD, "-w", "--workers", type=click.IntRange(min=1), default=1, help="Processes that send requests."),
    _option(
        _LOAD,
        *("-t", "--threads"),
        type=click.IntRange(min=1),
        default=1,
        help="Concurrent clients in each process, one connection each.",
    ),
    _option(_LOAD, "-s", "--samples", type=click.IntRange(min=1), default=10, help="Requests that each client sends."),
    _option(
        _LOAD,
        *("-i", "--time-based"),
        type=Positive("seconds", WEEK_S),
        help="Send for so many seconds instead of counting samples; -s is ignored then.",
    ),
    _option(_LOAD, "-b", "--batch-size", type=click.IntRange(min=1), default=1, help="Images in each request."),
    _option(
        _LOAD,
        "--warmup",
        type=click.FloatRange(min=0, max=HOUR_S),
        default=0,
        metavar="SECONDS",
        help="Seconds of the same load before the measuring begins.",
    ),
    _option(
        _OPEN,
        "--rate",
        type=Positive("rate", 1_000_000),
        help=f"Requests a second, of all workers together, for -i seconds ({DEFAULT_SECONDS:g} without it).",
    ),
    _option(
        _OPEN,
        "--arrivals",
        type=click.Choice(["constant", "poisson"]),
        default="constant",
        help="Evenly spaced, or at random as independent users come.",
    ),
    _option(
        _OPEN,
        "--connections",
        type=click.IntRange(min=1, max=10_000),
        default=128,
        help="The most connections to keep; more are opened as they are needed.",
    ),
    _option(
        _RUNS,
        "--sweep",
        metavar="LIST",
        help="One run for each number of clients, 1,2,4,8, or for each rate, rate=5,10,20.",
    ),
    _option(
        _RUNS,
        "--slo",
        metavar="pNN=LIMIT",
        help="Find the highest rate at which NN % of the requests take at most LIMIT, such as p99=100ms, in runs of -i "
        "seconds.",
    ),
    _option(
        _REQUESTS,
        "--payload",
        type=click.Choice(PAYLOADS),
        default="imgs",
        help='JSON {"imgs": [base64, ...]} or {"img": base64}, the image itself as the body, or rows of {"b64": ...} '
        "for TensorFlow Serving's REST API.",
    ),
    _option(_REQUESTS, "--signature", default=SIGNATURE, help="The signature that --payload tfserving asks."),
    _option(
        _REQUESTS,
        "-H",
        "--header",
        "headers",
        multiple=True,
        help="'Name: value', with every request; may be repeated.",
    ),
    _option(_REQUESTS, "--insecure", is_flag=True, help="Accept any certificate of an https endpoint."),
    _option(
        _REQUESTS,
        "--timeout",
        type=Positive("seconds", HOUR_S),
        default=60,
        help="How long a request may take before it counts as failed.",
    ),
    _option(
        _REQUESTS,
        "--expect",
        metavar="LABEL",
        help="Count an answer whose most likely label is another one as failed.",
    ),
    _option(
        _FILES,
        "--price",
        type=Positive("price", 1_000_000),
        help="What the server costs an hour; adds the cost of a million inferences.",
    ),
    _option(_FILES, "--json", "json_file", type=_FILE, help="Also write every figure to this file, as JSON."),
    _option(_FILES, "--csv", "csv_file", type=_FILE, help="Also write the figures to this file, one line a run."),
    _option(
        _FILES,
        *("--report", "report_file"),
        type=_FILE,
        help="Also write a page of charts to this file, HTML that opens offline.",
    ),
    _option(
        _MLPERF,
        "--scenario",
        type=click.Choice(SCENARIOS),
        help="Of MLPerf inference. -i and -s are its minimum, without them MLPerf's own; Server needs a --rate, and "
        "takes --slo p99=LIMIT.",
    ),
    _option(
        _MLPERF,
        "--accuracy",
        is_flag=True,
        help="Measure top-1 and top-5 accuracy on IMG_URL, a folder with one subfolder for each label.",
    ),
    _option(
        _MLPERF,
        "--mlperf-log",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(),
        help="Folder for LoadGen's mlperf_log_* files.",
    ),
)


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds OPTIONS to a click command."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
