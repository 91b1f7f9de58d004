import click

from visionserve.bench.load.interrupts import Interrupts
from visionserve.bench.mlperf import report, scenario
from visionserve.bench.mlperf.counts import Counts
from visionserve.bench.mlperf.result import to_json
from visionserve.bench.mlperf.settings import Scenario, scenario_settings
from visionserve.bench.options import Options
from visionserve.bench.parameters import given
from visionserve.bench.reports.progress import Progress, failures_by_kind
from visionserve.bench.searches.slo import Slo
from visionserve.bench.session import Files
from visionserve.bench.transport.endpoint import Endpoint
from visionserve.bench.workload.payloads import payload_format
from visionserve.files import write_atomically

INTERRUPTED = 130
# LoadGen decides when to send, from one process, and writes its own logs.
NOT_LOADGENS = {
    "workers": "-w",
    "warmup": "--warmup",
    "arrivals": "--arrivals",
    "connections": "--connections",
    "sweep": "--sweep",
    "csv_file": "--csv",
    "report_file": "--report",
    "price": "--price",
}
BOUND = 99.0


def run_scenario(options: Options) -> int:
    """The command with --scenario; its exit code. Raises UsageError, and MissingError without LoadGen."""
    for name, option in NOT_LOADGENS.items():
        if given(name):
            raise click.UsageError(f"{option} does not go with --scenario, which LoadGen paces: leave it out.")
    scenario.check_loadgen()
    files = Files(options.json_file, None, None)
    files.check()
    assert options.scenario is not None
    settings = scenario_settings(
        options.scenario,
        options.img_url,
        Endpoint.parse(options.endpoint, options.headers, options.insecure),
        payload_format(options.payload, options.signature),
        clients=_clients(options),
        batch_size=options.batch_size if given("batch_size") else None,
        expect=options.expect,
        min_seconds=options.time_based,
        min_queries=options.samples if given("samples") else None,
        target_rate=options.rate,
        latency_limit_ms=_latency_limit_ms(options),
        accuracy=options.accuracy,
        log_dir=options.mlperf_log,
        timeout_s=options.timeout,
    )
    with Interrupts() as interrupts:
        click.echo(report.heading(settings))
        with Progress() as progress:
            result = scenario.run_scenario(settings, interrupts, lambda counts: progress.tell(lambda: _line(counts)))
        click.echo(report.text(result))
        if options.json_file is not None:
            write_atomically(options.json_file, to_json(result))
    if result.interrupted:
        return INTERRUPTED
    return 0 if result.ok else 1


def _clients(options: Options) -> int:
    """Server's queries do not wait for each other: without -t it has as many connections as an open loop."""
    return options.connections if options.scenario == Scenario.SERVER and not given("threads") else options.threads


def _line(counts: Counts) -> str:
    return f"{counts.served} samples served, {failures_by_kind(counts.failed)}"


def _latency_limit_ms(options: Options) -> float | None:
    if options.slo is None:
        return None
    slo = Slo.parse(options.slo)
    if slo.percentile != BOUND:
        raise click.UsageError("MLPerf's Server scenario is bounded at p99: write --slo p99=LIMIT.")
    return slo.limit_ms
