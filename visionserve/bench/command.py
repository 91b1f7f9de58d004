import os
import sys
from typing import Any

import click

from visionserve.bench.figures.document import Run
from visionserve.bench.load.interrupts import Interrupts
from visionserve.bench.load.pacing import ConstantRate, FixedCount, Pacer, PoissonRate, UntilDeadline
from visionserve.bench.load.plan import Plan
from visionserve.bench.load.run import check_reachable
from visionserve.bench.options import DEFAULT_SECONDS, Options, with_options
from visionserve.bench.parameters import GroupedCommand, given
from visionserve.bench.reports import summary
from visionserve.bench.searches.slo import Slo
from visionserve.bench.searches.sweep import RATE, Sweep
from visionserve.bench.session import Files, Session
from visionserve.bench.transport.endpoint import Endpoint
from visionserve.bench.workload.images import load_images
from visionserve.bench.workload.payloads import payload_format
from visionserve.bench.workload.workload import Workload
from visionserve.errors import VisionserveError

INTERRUPTED = 130

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


@click.command(cls=GroupedCommand, epilog=EPILOG)
@click.argument("img_url", metavar="IMG_URL", envvar="IMG_URL")
@click.argument("endpoint", metavar="ENDPOINT", envvar="ENDPOINT")
@with_options
def throughput_test(**parameters: Any) -> int:
    """Measure how many images a second the API at ENDPOINT classifies.

    IMG_URL is the image to send: an http(s) or file:// URL, or a path; a folder or a .txt file with one of them a
    line sends all of theirs in turn. Each request is a POST of {"imgs": [base64, ...]}. Requests that fail are
    listed by kind and never counted as inferences.

    Both arguments may come from the environment variables IMG_URL and ENDPOINT instead.

    Exit code: 0 when every request was served, 1 when any failed or no rate meets the --slo, 2 when no load was sent,
    130 after Ctrl-C.
    """
    options = Options(**parameters)
    if options.scenario is not None:
        from visionserve.bench.mlperf.command import run_scenario

        return run_scenario(options)
    sweep = None if options.sweep is None else Sweep.parse(options.sweep)
    slo = None if options.slo is None else Slo.parse(options.slo)
    _refuse_what_does_not_go_together(options, sweep)
    files = Files(options.json_file, options.csv_file, options.report_file)
    files.check()
    plan = _plan(options, sweep, slo)
    check_reachable(plan.endpoint, plan.timeout_s)
    with Interrupts() as interrupts:
        session = Session(interrupts, options.price)
        if slo is not None:
            ok, run = _search(slo, plan, session, options)
        elif sweep is not None:
            ok, run = _sweep(sweep, plan, session)
        else:
            ok, run = _measure(plan, session)
        files.write(run)
    if run.interrupted:
        return INTERRUPTED
    return 0 if ok else 1


def _measure(plan: Plan, session: Session) -> tuple[bool, Run]:
    click.echo(summary.heading(plan))
    run = session.measure(plan)
    click.echo(summary.text(run))
    return run.ok, run


def _sweep(sweep: Sweep, plan: Plan, session: Session) -> tuple[bool, Run]:
    click.echo(summary.target(plan))
    run = sweep.run(plan, session.measure_step)
    click.echo(f"\n{sweep.table(run)}")
    for note in run.notes:
        click.echo(f"note: {note}")
    return sweep.ok(run), run


def _search(slo: Slo, plan: Plan, session: Session, options: Options) -> tuple[bool, Run]:
    click.echo(summary.target(plan))
    run = slo.search(
        plan, session.measure_step, session.interrupts, options.rate, options.time_based or DEFAULT_SECONDS
    )
    click.echo(f"\n{slo.text(run)}")
    return slo.ok(run), run


def _plan(options: Options, sweep: Sweep | None, slo: Slo | None) -> Plan:
    encoding = payload_format(options.payload, options.signature)
    if options.batch_size > 1 and not encoding.several:
        raise click.UsageError(f"--payload {options.payload} holds one image: leave out -b, or send --payload imgs.")
    target = Endpoint.parse(options.endpoint, options.headers, options.insecure)
    workload = Workload(target, load_images(options.img_url), encoding, options.batch_size, options.expect)
    pacer = _pacer(options, open_loop=_is_open(options, sweep))
    clients = options.connections if pacer.open_loop else options.workers * options.threads
    return Plan(workload, pacer, options.workers, clients, options.timeout)


def _pacer(options: Options, open_loop: bool) -> Pacer:
    if open_loop:
        arrive = ConstantRate if options.arrivals == "constant" else PoissonRate
        return arrive(options.rate or 1.0, options.time_based or DEFAULT_SECONDS, options.warmup)
    if options.time_based is None:
        return FixedCount(options.samples, options.warmup)
    return UntilDeadline(options.time_based, options.warmup)


def _is_open(options: Options, sweep: Sweep | None) -> bool:
    return options.rate is not None or options.slo is not None or (sweep is not None and sweep.kind == RATE)


def _refuse_what_does_not_go_together(options: Options, sweep: Sweep | None) -> None:
    """Raises click.UsageError."""
    if options.sweep is not None and options.slo is not None:
        raise click.UsageError("--sweep and --slo are two questions: ask one of them.")
    if options.sweep is not None and options.rate is not None:
        raise click.UsageError("--sweep runs each of its own rates or numbers of clients: leave out --rate.")
    if _is_open(options, sweep):
        which = next(name for name in ("rate", "slo", "sweep") if given(name))
        if given("threads"):
            raise click.UsageError(f"--{which} is an open loop, which opens the connections it needs: leave out -t.")
        if given("samples"):
            raise click.UsageError(f"--{which} is an open loop, which lasts a time: give it with -i, not -s.")
    elif given("connections") or given("arrivals"):
        raise click.UsageError("--connections and --arrivals are for an open loop: give its --rate too.")
    if options.sweep is not None and given("threads"):
        raise click.UsageError("--sweep runs each of its own numbers of clients: leave out -t.")
    if options.accuracy or given("mlperf_log"):
        raise click.UsageError("--accuracy and --mlperf-log belong to MLPerf: give its --scenario too.")


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
