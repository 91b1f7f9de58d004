import os
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import click

from visionserve.bench import summary
from visionserve.bench.document import Run, document, to_json
from visionserve.bench.endpoint import Endpoint
from visionserve.bench.images import load_images
from visionserve.bench.interrupts import Interrupts
from visionserve.bench.load import Watch, check_reachable, run_load
from visionserve.bench.metrics import fold
from visionserve.bench.options import HOUR_S, WEEK_S, Positive, given, refuse_together, seconds
from visionserve.bench.outcome import Outcome
from visionserve.bench.pacing import ConstantRate, FixedCount, Pacer, PoissonRate, UntilDeadline
from visionserve.bench.payloads import PAYLOADS, SIGNATURE, payload_format
from visionserve.bench.plan import Plan
from visionserve.bench.progress import Progress
from visionserve.bench.spreadsheet import to_csv
from visionserve.bench.workload import Workload
from visionserve.errors import UsageError, VisionserveError
from visionserve.files import write_atomically

INTERRUPTED = 130
DEFAULT_SECONDS = 10.0

EPILOG = """\b
Examples: 2 processes with 8 clients each, for 30 seconds
  throughput_test.py -w 2 -t 8 -i 30 cat.jpg http://localhost:8888/
\b
20 requests a second, whether or not the last ones were answered
  throughput_test.py --rate 20 -i 30 --warmup 5 photos/ http://localhost:8888/
\b
The highest rate at which 99 % of the requests take at most 500 ms
  throughput_test.py --slo p99=500ms --report slo.html cat.jpg http://localhost:8888/
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
    type=seconds(max=WEEK_S),
    help=f"Send for so many seconds instead of counting samples; -s is ignored then. An open loop without it sends "
    f"for {DEFAULT_SECONDS:g}.",
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
    "--warmup",
    type=click.FloatRange(min=0, max=HOUR_S),
    default=0,
    show_default=True,
    help="Seconds of the same load before the measuring begins.",
)
@click.option(
    "--rate",
    type=Positive("rate", max=1_000_000),
    help="Open loop: requests a second of all workers together. Latency counts from when a request was due.",
)
@click.option(
    "--arrivals",
    type=click.Choice(["constant", "poisson"]),
    default="constant",
    show_default=True,
    help="How the requests of an open loop are spaced.",
)
@click.option(
    "--connections",
    type=click.IntRange(min=1, max=10_000),
    default=128,
    show_default=True,
    help="The most connections that an open loop keeps.",
)
@click.option(
    "--payload",
    type=click.Choice(PAYLOADS),
    default="imgs",
    show_default=True,
    help='JSON {"imgs": [base64, ...]} or {"img": base64}, the image itself as the body, or rows of {"b64": base64} '
    "for TensorFlow Serving's REST API.",
)
@click.option(
    "--signature",
    default=SIGNATURE,
    show_default=True,
    help="The signature that --payload tfserving asks.",
)
@click.option("-H", "--header", "headers", multiple=True, help="'Name: value', with every request; may be repeated.")
@click.option("--insecure", is_flag=True, help="Accept any certificate of an https endpoint.")
@click.option(
    "--timeout",
    type=seconds(max=HOUR_S),
    default=60,
    show_default=True,
    help="How long a request may take before it counts as failed.",
)
@click.option(
    "--expect",
    metavar="LABEL",
    help="Count every answer whose most likely label is another one as failed.",
)
@click.option(
    "--price",
    type=Positive("price", max=1_000_000),
    help="What the server costs an hour; adds the cost per million inferences.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write every figure to this file, as JSON.",
)
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the figures to this file, one line a run.",
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
    warmup: float,
    rate: float | None,
    arrivals: str,
    connections: int,
    payload: str,
    signature: str,
    headers: tuple[str, ...],
    insecure: bool,
    timeout: float,
    expect: str | None,
    price: float | None,
    json_file: Path | None,
    csv_file: Path | None,
) -> int:
    """Measure how many images a second the API at ENDPOINT classifies.

    IMG_URL is the image to send: an http(s) or file:// URL, or a path; a folder or a .txt file with one of them a
    line sends all of theirs in turn. Each request is a POST of {"imgs": [base64, ...]}; each client sends its next
    request when the last one was answered (closed loop), or requests are sent at a given --rate (open loop). Requests
    that fail are listed by kind and never counted as inferences.

    Both arguments may come from the environment variables IMG_URL and ENDPOINT instead.

    Exit code: 0 when every request was served, 1 when any failed, 2 when no load was sent, 130 after Ctrl-C.
    """
    refuse_together("--rate", "rate", "-t", "threads", "an open loop has as many connections as it needs")
    refuse_together("--rate", "rate", "-s", "samples", "say with -i for how many seconds to send")
    if rate is None and (given("connections") or given("arrivals")):
        raise click.UsageError("--connections and --arrivals are for an open loop: give its --rate too.")
    pacer = _pacer(samples, time_based, warmup, rate, arrivals)
    files = Files(json_file, csv_file)
    files.check_writable()
    encoding = payload_format(payload, signature)
    if batch_size > 1 and not encoding.several:
        raise click.UsageError(f"--payload {payload} holds one image: leave out -b, or send --payload imgs.")
    target = Endpoint.parse(endpoint, headers, insecure)
    workload = Workload(target, load_images(img_url), encoding, batch_size, expect)
    plan = Plan(workload, pacer, workers, connections if pacer.open_loop else workers * threads, timeout)
    check_reachable(plan)
    with Interrupts() as interrupts:
        session = Session(interrupts, price)
        click.echo(summary.heading(plan))
        run = session.measure(plan)
        click.echo(summary.text(run))
        files.write(run)
    if run.interrupted:
        return INTERRUPTED
    return 0 if run.ok else 1


@dataclass(frozen=True)
class Session:
    """Measures one plan after the other, and shows its progress."""

    interrupts: Interrupts
    price_per_hour: float | None

    def measure(self, plan: Plan, watch: Watch | None = None) -> Run:
        """Raises KeyboardInterrupt when interrupted before any load was sent."""
        started = datetime.now(timezone.utc)
        with Progress() as progress:

            def show(outcome: Outcome) -> bool:
                progress.show(outcome)
                return watch is not None and watch(outcome)

            outcome = run_load(plan, self.interrupts, show)
        return document(fold(outcome, plan), plan, started, self.price_per_hour)


@dataclass(frozen=True)
class Files:
    """Where the figures go besides the terminal."""

    json: Path | None
    csv: Path | None

    def check_writable(self) -> None:
        """Raises UsageError, before any load, for a file that could not be written after it."""
        for option, path in (("--json", self.json), ("--csv", self.csv)):
            if path is None:
                continue
            folder = next(parent for parent in path.absolute().parents if parent.exists())
            if not (folder.is_dir() and os.access(folder, os.W_OK)):
                raise UsageError(f"{option} {path} cannot be written: {folder} is not a folder that you may write to.")

    def write(self, run: Run) -> None:
        if self.json is not None:
            write_atomically(self.json, to_json(run))
        if self.csv is not None:
            write_atomically(self.csv, to_csv(run.steps or [run]).encode())


def _pacer(samples: int, time_based: float | None, warmup: float, rate: float | None, arrivals: str) -> Pacer:
    if rate is not None:
        arrive = ConstantRate if arrivals == "constant" else PoissonRate
        return arrive(rate, time_based or DEFAULT_SECONDS, warmup)
    return FixedCount(samples, warmup) if time_based is None else UntilDeadline(time_based, warmup)


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
