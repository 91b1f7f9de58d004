import time

import pytest

from tests.bench.instant import instant_server
from tests.bench.servers import Exchange, serving

pytestmark = pytest.mark.timing


def delay(seconds: float):
    def behave(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.answer()

    return behave


@pytest.mark.slow
def test_the_warm_up_is_in_no_figure(bench, photo):
    """The first 30 requests are slow and every third of them fails: cold caches, a model that still compiles."""

    def behave(exchange: Exchange) -> None:
        if exchange.number < 30:
            time.sleep(0.1)
            exchange.answer(503 if exchange.number % 3 == 0 else 200, None)
        else:
            time.sleep(0.01)
            exchange.answer()

    with serving(behave) as (url, record):
        run = bench("-t", 4, "-s", 20, "--warmup", 2, photo, url)
    assert run.code == 0, run.out
    figures = run.figures
    assert (figures["requests"], figures["failed"]) == (80, 0), "samples count from the end of the warm-up"
    assert figures["warmup_requests"] == len(record.bodies) - 80 > 30
    assert figures["latency_ms"]["max"] < 100
    assert run.rows("note") == ["10 requests of the warm-up failed"]
    assert f"{figures['warmup_requests']} before them to warm up" in run.row("requests")


@pytest.mark.slow
def test_an_open_loop_warms_up_at_its_rate(bench, photo):
    with serving() as (url, record):
        run = bench("--rate", 20, "-i", 2, "--warmup", 1, photo, url)
    assert run.figures["warmup_requests"] == 20
    assert run.figures["requests"] == 40
    assert len(record.bodies) == 60
    assert run.figures["duration_s"] == pytest.approx(2, rel=0.1)


def test_a_short_run_says_that_it_is_not_to_be_trusted(bench, photo):
    with serving() as (url, _):
        run = bench(photo, url)
    doubts = run.figures["stability"]["doubts"]
    assert run.rows("not trusted") == doubts
    assert ["too short" in doubts[0], "too few requests" in doubts[1], len(doubts)] == [True, True, 2]


@pytest.mark.slow
def test_a_steady_run_is_trusted_and_says_how_exact_it_is(bench, photo):
    with serving(delay(0.05)) as (url, _):
        run = bench("-t", 4, "-i", 7, photo, url)
    stability = run.figures["stability"]
    assert stability["doubts"] == []
    assert stability["margin_95"] < 0.1
    windows = stability["windows_inferences_per_s"]
    assert len(windows) == 5
    assert sum(windows) / 5 == pytest.approx(run.figures["inferences_per_s"], rel=0.1)
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
@pytest.mark.alone
def test_a_rate_above_what_the_server_can_do_is_seen_by_its_growing_latency(bench, photo):
    def one_at_a_time(exchange: Exchange) -> None:
        with exchange.record.turn:
            time.sleep(0.05)
        exchange.answer()

    with serving(one_at_a_time) as (url, _):
        run = bench("--rate", 30, "-i", 7, photo, url)
    assert run.figures["failed"] == 0
    assert any(doubt.startswith("latency kept growing") for doubt in run.rows("not trusted"))


@pytest.mark.slow
def test_the_timeline_has_what_ended_in_each_second(bench, photo):
    with serving(delay(0.1)) as (url, record):
        run = bench("-w", 2, "-t", 2, "-i", 4, "-b", 2, photo, url)
    spans = run.figures["timeline"]
    assert [span["start_s"] for span in spans] == list(range(len(spans)))
    assert len(spans) in (4, 5)
    assert sum(span["requests"] for span in spans) == run.figures["requests"]
    assert sum(span["inferences"] for span in spans) == run.figures["inferences"]
    first = min(record.arrived)
    ended = [arrived + took - first for arrived, took in zip(sorted(record.arrived), record.took, strict=True)]
    assert spans[1]["requests"] == pytest.approx(sum(1 <= end < 2 for end in ended), abs=8)
    assert all(span["p50_ms"] == pytest.approx(100, rel=0.1) for span in spans[:4])
    assert all(span["p50_ms"] <= span["p99_ms"] <= span["max_ms"] for span in spans)


@pytest.mark.slow
@pytest.mark.alone
def test_a_client_that_is_the_limit_says_so(bench, photo):
    """More clients than one interpreter can keep busy, against a server in C that answers at once."""
    with instant_server() as url:
        run = bench("-t", 16, "-i", 3, photo, url)
    assert run.code == 0, run.out
    assert run.figures["client_busiest"] > 0.8
    assert any("the client was the limit, not the server" in note for note in run.rows("note"))


@pytest.mark.slow
@pytest.mark.alone
def test_a_client_that_waits_for_its_server_is_not_the_limit(bench, photo):
    with serving(delay(0.2)) as (url, _):
        run = bench("-t", 2, "-s", 5, photo, url)
    assert run.figures["client_busiest"] < 0.5
    assert run.rows("note") == []


def test_bytes_are_counted_both_ways(bench, photo):
    with serving() as (url, record):
        run = bench("-s", 5, photo, url)
    body = sum(map(len, record.bodies))
    assert body < run.figures["bytes_sent"] < body + 5 * 300
    assert 5 * 50 < run.figures["bytes_received"] < 5 * 400
    assert "MB sent" in run.row("transferred")
