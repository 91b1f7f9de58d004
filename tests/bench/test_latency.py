import pickle
import statistics
import time

import pytest

from tests.bench.servers import Exchange, serving
from tests.bench.stalls import Stalls, measured_stalls
from visionserve.bench.figures.metrics import Metrics, fold
from visionserve.bench.load.outcome import Outcome
from visionserve.bench.load.pacing import FixedCount
from visionserve.bench.load.plan import Plan
from visionserve.bench.load.results import Result, Tally
from visionserve.bench.load.worker import Interval
from visionserve.bench.transport.endpoint import Endpoint
from visionserve.bench.transport.failures import Failure
from visionserve.bench.workload.payloads import payload_format
from visionserve.bench.workload.workload import Workload

pytestmark = pytest.mark.timing

MS = 1_000_000


def assert_close(shown_ms: float, truth_s: float, stalls: Stalls) -> None:
    """Within 3 % of what the server itself recorded, and above it by what the machine made a client wait besides."""
    assert truth_s * 970 <= shown_ms <= truth_s * 1030 + stalls.ms


@pytest.mark.slow
def test_a_fixed_delay_is_what_every_percentile_shows(bench, photo):
    def behave(exchange: Exchange) -> None:
        time.sleep(0.5)
        exchange.answer()

    with serving(behave) as (url, record), measured_stalls() as stalls:
        run = bench("-t", 2, "-s", 7, photo, url)
    latency = run.figures["latency_ms"]
    assert_close(latency["p50"], statistics.median(record.took), stalls)
    assert_close(latency["mean"], statistics.mean(record.took), stalls)
    assert latency["max"] >= max(record.took) * 1000 * 0.97
    shown = dict(part.split() for part in run.row("latency (ms)").split(", "))
    assert list(shown) == ["mean", "p50", "p90", "p95", "p99", "p99.9", "max"]
    assert float(shown["p50"]) == pytest.approx(latency["p50"], abs=0.1)


@pytest.mark.slow
def test_two_modes_are_both_seen_across_workers(bench, photo):
    def behave(exchange: Exchange) -> None:
        time.sleep(0.9 if exchange.number % 5 == 4 else 0.3)
        exchange.answer()

    with serving(behave) as (url, record), measured_stalls() as stalls:
        run = bench("-w", 2, "-t", 2, "-s", 10, photo, url)
    took = sorted(record.took)
    latency = run.figures["latency_ms"]
    assert_close(latency["p50"], statistics.median(took), stalls)
    assert_close(latency["p90"], statistics.median(took[-8:]), stalls)
    assert_close(latency["p95"], statistics.median(took[-8:]), stalls)


def test_throughput_is_inferences_over_the_time_from_first_request_to_last_answer(bench, photo):
    def behave(exchange: Exchange) -> None:
        time.sleep(0.1)
        exchange.answer()

    with serving(behave) as (url, record), measured_stalls() as stalls:
        run = bench("-t", 2, "-s", 10, "-b", 2, photo, url)
    figures = run.figures
    truth_s = max(record.ended) - min(record.arrived)
    assert truth_s * 0.95 <= figures["duration_s"] <= truth_s * 1.05 + stalls.seconds
    assert figures["inferences_per_s"] == pytest.approx(40 / figures["duration_s"])
    assert figures["requests_per_s"] == pytest.approx(20 / figures["duration_s"])
    assert run.row("inferences/s") == f"{figures['inferences_per_s']:.1f}"


PLAN = Plan(
    Workload(Endpoint.parse("http://127.0.0.1:8888/"), [b"\xff\xd8\xff"], payload_format("imgs")),
    FixedCount(10),
    workers=1,
    clients=1,
    timeout_s=60,
)


def tally_of(*latencies_ms: int, start_ns: int = 0) -> Tally:
    tally = Tally()
    for latency in latencies_ms:
        tally.add(Result(start_ns, start_ns, start_ns + latency * MS, 1))
    return tally


def folded(*tallies: Tally) -> Metrics:
    """The figures of workers that each report one of the tallies, sent as their processes send them."""
    outcome = Outcome()
    for worker, tally in enumerate(tallies):
        outcome.add(worker, pickle.loads(pickle.dumps(Interval(0, tally, cpu_s=0, done=True))))
    return fold(outcome, PLAN)


def test_percentiles_of_workers_are_merged_not_averaged():
    merged = folded(tally_of(*[10] * 99), tally_of(1000))
    assert merged == folded(tally_of(*[10] * 99, 1000))
    assert merged.latency_ms["p95"] == pytest.approx(10, rel=0.001)
    assert merged.latency_ms["max"] == pytest.approx(1000, rel=0.001)
    assert merged.latency_ms["mean"] == pytest.approx(19.9, rel=0.001)


def test_a_worker_that_recorded_nothing_changes_nothing():
    metrics = folded(Tally(), tally_of(5, 7, start_ns=3 * MS))
    assert (metrics.requests, metrics.duration_s) == (2, 0.007)


def test_failed_requests_have_no_latency():
    tally = tally_of(100)
    tally.add(Result(0, 0, 1 * MS, 1, Failure("refused", "connection refused")))
    metrics = folded(tally)
    assert metrics.latency_ms["p50"] == pytest.approx(100, rel=0.001)
    assert (metrics.served, metrics.failed, metrics.errors) == (1, 1, {"refused": 1})


def test_nothing_served_leaves_the_latencies_unknown():
    assert set(folded().latency_ms.values()) == {None}
