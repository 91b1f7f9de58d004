import statistics
import time

import pytest

from tests.bench.instant import instant_server
from tests.bench.loads import one_at_a_time
from tests.bench.servers import Exchange, serving
from tests.bench.stalls import measured_stalls
from tests.bench.test_latency import PLAN, tally_of
from visionserve.bench.figures.metrics import fold
from visionserve.bench.load.outcome import Outcome
from visionserve.bench.load.worker import Interval

pytestmark = pytest.mark.timing


def delay(seconds: float):
    def behave(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.answer()

    return behave


@pytest.mark.slow
def test_the_warm_up_is_in_no_figure(bench, photo):
    """Every third of the first 30 requests fails and each client's first is slow: cold caches, a model that still
    compiles."""

    def behave(exchange: Exchange) -> None:
        if exchange.number < 30:
            time.sleep(2 if exchange.number < 4 else 0.01)
            exchange.answer(503 if exchange.number % 3 == 0 else 200, None)
        else:
            time.sleep(0.01)
            exchange.answer()

    with serving(behave) as (url, record):
        run = bench("-t", 4, "-s", 20, "--warmup", 4, photo, url)
    assert run.code == 0, run.out
    figures = run.figures
    assert (figures["requests"], figures["failed"]) == (80, 0), "samples count from the end of the warm-up"
    assert figures["warmup_requests"] == len(record.bodies) - 80 > 30
    assert figures["latency_ms"]["max"] < 2000
    assert "10 requests of the warm-up failed" in run.rows("note")
    assert f"{figures['warmup_requests']} before them to warm up" in run.row("requests")


@pytest.mark.slow
def test_an_open_loop_warms_up_at_its_rate(bench, photo):
    with serving() as (url, record):
        run = bench("--rate", 20, "-i", 2, "--warmup", 3, photo, url)
    assert run.figures["warmup_requests"] == 60
    assert run.figures["requests"] == 40
    assert len(record.bodies) == 100
    assert 2 <= run.figures["duration_s"] < 2 + 3, "its seconds are not among those measured"


def test_a_short_run_says_that_it_is_not_to_be_trusted(bench, photo):
    with serving() as (url, _):
        run = bench(photo, url)
    doubts = run.figures["stability"]["doubts"]
    assert run.rows("not trusted") == doubts
    assert ["too short" in doubts[0], "too few requests" in doubts[1], len(doubts)] == [True, True, 2]


@pytest.mark.slow
def test_a_steady_run_is_trusted_and_says_how_exact_it_is(bench, photo):
    # So many clients that answers come in lumps, beside which a busy machine's hold-ups are small.
    with serving(delay(0.5)) as (url, _):
        run = bench("-t", 40, "-i", 7, photo, url)
    stability = run.figures["stability"]
    assert stability["doubts"] == []
    windows = stability["windows_inferences_per_s"]
    assert windows == [span["inferences"] for span in run.figures["timeline"][-6:-1]], "the last is no whole second"
    students_t = 2.776
    margin = students_t * statistics.stdev(windows) / 5**0.5 / statistics.mean(windows)
    assert stability["margin_95"] == pytest.approx(margin)
    assert "at 95 % confidence" in run.row("inferences/s")


@pytest.mark.slow
def test_a_server_that_slows_down_is_unsteady(bench, photo):
    begun: list[float] = []

    def behave(exchange: Exchange) -> None:
        begun.append(time.monotonic())
        time.sleep(0.03 if begun[-1] - begun[0] < 4 else 0.12)
        exchange.answer()

    with serving(behave) as (url, _):
        run = bench("-t", 2, "-i", 8, photo, url)
    assert any(doubt.startswith("unsteady") for doubt in run.rows("not trusted"))


@pytest.mark.slow
def test_a_rate_above_what_the_server_can_do_is_seen_by_its_growing_latency(bench, photo):
    with serving(one_at_a_time(0.05)) as (url, _):
        run = bench("--rate", 30, "-i", 7, photo, url)
    assert run.figures["failed"] == 0
    assert any(doubt.startswith("latency kept growing") for doubt in run.rows("not trusted"))


@pytest.mark.slow
def test_the_timeline_has_what_ended_in_each_second(bench, photo):
    with serving(delay(0.1)) as (url, record), measured_stalls() as stalls:
        run = bench("-w", 2, "-t", 2, "-i", 4, "-b", 2, photo, url)
    spans = run.figures["timeline"]
    assert [span["start_s"] for span in spans] == list(range(len(spans)))
    assert sum(span["requests"] for span in spans) == run.figures["requests"]
    assert sum(span["inferences"] for span in spans) == run.figures["inferences"]
    ended = [end - min(record.arrived) for end in record.ended]
    # A lump of four answers ends every tenth of a second.
    slack_s = 0.1 + stalls.seconds
    told = 0
    for number, span in enumerate(spans, start=1):
        told += span["requests"]
        assert sum(end < number - slack_s for end in ended) <= told <= sum(end < number + slack_s for end in ended)
    assert len(spans) <= max(ended) + slack_s + 1
    served = [span for span in spans if span["requests"]]
    assert all(100 <= span["p50_ms"] <= 110 + stalls.ms for span in served[:4])
    assert all(span["p50_ms"] <= span["p99_ms"] <= span["max_ms"] for span in served)


@pytest.mark.slow
@pytest.mark.alone
def test_a_client_that_is_the_limit_says_so(bench, photo):
    """More clients than one interpreter can keep busy, against a server in C that answers at once."""
    with instant_server() as url:
        run = bench("-t", 16, "-i", 3, photo, url)
    assert run.code == 0, run.out
    # On a busy machine it gets no more than its share of the cores; a client that waits uses next to nothing.
    assert run.figures["client_busiest"] > 0.05
    assert ("the client was the limit, not the server" in run.notes) == (run.figures["client_busiest"] > 0.8)


@pytest.mark.parametrize(("cpu_s", "limited"), [(0.81, True), (0.79, False)])
def test_a_client_is_the_limit_from_four_fifths_of_a_core_on(cpu_s, limited):
    outcome = Outcome()
    outcome.add(0, Interval(0, tally_of(1000), cpu_s, done=True))
    metrics = fold(outcome, PLAN)
    assert metrics.client_busiest == pytest.approx(cpu_s)
    assert any("the client was the limit, not the server" in note for note in metrics.notes) == limited


@pytest.mark.slow
@pytest.mark.alone
def test_a_client_that_waits_for_its_server_is_not_the_limit(bench, photo):
    with serving(delay(0.2)) as (url, _):
        run = bench("-t", 2, "-s", 5, photo, url)
    assert run.figures["client_busiest"] < 0.5
    assert "the client" not in run.notes


def test_bytes_are_counted_both_ways(bench, photo):
    with serving() as (url, record):
        run = bench("-s", 5, photo, url)
    body = sum(map(len, record.bodies))
    assert body < run.figures["bytes_sent"] < body + 5 * 300
    assert 5 * 50 < run.figures["bytes_received"] < 5 * 400
    assert "MB sent" in run.row("transferred")
