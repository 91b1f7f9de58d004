import pickle
import statistics
import time

import pytest

from tests.bench.servers import Exchange, serving
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


def close_to(truth_s: float) -> object:
    """Within 3 % of what the server itself recorded. The delays are long enough for that to hold on a busy machine."""
    return pytest.approx(truth_s * 1000, rel=0.03)


@pytest.mark.slow
def test_a_fixed_delay_is_what_every_percentile_shows(bench, photo):
    def behave(exchange: Exchange) -> None:
        time.sleep(0.5)
        exchange.answer()

    with serving(behave) as (url, record):
        run = bench("-t", 2, "-s", 7, photo, url)
    latency = run.figures["latency_ms"]
    assert latency["p50"] == close_to(statistics.median(record.took))
    assert latency["mean"] == close_to(statistics.mean(record.took))
    # A server's thread may lose the core after its answer is out: its own longest can be over the client's.
    assert latency["max"] >= max(record.took) * 1000 * 0.97
    shown = dict(part.split() for part in run.row("latency (ms)").split(", "))
    assert list(shown) == ["mean", "p50", "p90", "p95", "p99", "p99.9", "max"]
    assert float(shown["p50"]) == pytest.approx(latency["p50"], abs=0.1)


@pytest.mark.slow
def test_two_modes_are_both_seen_across_workers(bench, photo):
    def behave(exchange: Exchange) -> None:
        time.sleep(0.9 if exchange.number % 5 == 4 else 0.3)
        exchange.answer()

    with serving(behave) as (url, record):
        run = bench("-w", 2, "-t", 2, "-s", 10, photo, url)
    took = sorted(record.took)
    latency = run.figures["latency_ms"]
    assert latency["p50"] == close_to(statistics.median(took))
    assert latency["p90"] == close_to(statistics.median(took[-8:]))
    assert latency["p95"] == close_to(statistics.median(took[-8:]))


def test_throughput_is_inferences_over_the_time_from_first_request_to_last_answer(bench, photo):
    def behave(exchange: Exchange) -> None:
        time.sleep(0.1)
        exchange.answer()

    with serving(behave) as (url, record):
        run = bench("-t", 2, "-s", 10, "-b", 2, photo, url)
    figures = run.figures
    ended = max(arrived + took for arrived, took in zip(record.arrived, record.took, strict=True))
    assert figures["duration_s"] == pytest.approx(ended - min(record.arrived), rel=0.05)
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
