import math
import os
import select
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.bench.conftest import Bench, Run
from tests.bench.separate import separate_server
from tests.bench.servers import Exchange, Record, serving
from tests.bench.stalls import Stalls, measured_stalls

pytestmark = pytest.mark.timing

PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p99.9": 99.9, "max": 100}


def delay(seconds: float):
    def behave(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.answer()

    return behave


def assert_percentiles(figures, truth_s: list[float], stalls: Stalls) -> None:
    """The mean and every percentile within 3 % or 1 ms of those of `truth_s`, one or two requests of rank aside, and
    above them by what the machine made a client wait besides."""
    ordered = sorted(truth_s)
    mean_ms = statistics.mean(ordered) * 1000
    assert min(mean_ms * 0.97, mean_ms - 1) <= figures["latency_ms"]["mean"]
    assert figures["latency_ms"]["mean"] <= max(mean_ms * 1.03, mean_ms + 1) + stalls.ms
    for name, percent in PERCENTILES.items():
        rank = math.ceil(percent / 100 * len(ordered)) - 1
        low, high = ordered[max(0, rank - 2)] * 1000, ordered[min(len(ordered) - 1, rank + 2)] * 1000
        reported = figures["latency_ms"][name]
        most = max(high * 1.03, high + 1) + stalls.ms
        assert min(low * 0.97, low - 1) <= reported <= most, (name, low, reported, most)


def together(folder: Path, *runs: tuple[object, ...]) -> list[Run]:
    """Runs of the command at the same time, each in a folder of its own."""
    running = []
    for number, options in enumerate(runs):
        (folder / str(number)).mkdir()
        bench = Bench(folder / str(number))
        running.append((bench, bench.start(*options)))
    return [bench.finish(process) for bench, process in running]


def gaps_of(record: Record) -> list[float]:
    return [later - earlier for earlier, later in pairwise(sorted(record.arrived))]


@pytest.mark.slow
def test_requests_are_sent_when_they_are_due_whether_or_not_earlier_ones_were_answered(bench, photo):
    with serving(delay(1.0)) as (url, record):
        run = bench("--rate", 20, "-i", 6, photo, url)
    assert run.code == 0, run.out
    assert len(record.arrived) == 120
    assert record.most_in_flight >= 15
    gaps = gaps_of(record)
    assert statistics.median(gaps) == pytest.approx(1 / 20, abs=0.01)
    assert run.figures["settings"]["loop"] == "open"
    assert run.figures["connections"] < 60, "no more connections than the load needs"
    assert run.figures["send_lag_ms"]["p50"] < 10
    assert run.row("send lag (ms)").startswith("mean")


def test_several_workers_share_the_rate(bench, photo):
    with serving(delay(0.05)) as (url, record):
        run = bench("-w", 3, "--rate", 30, "-i", 2, photo, url)
    assert len(record.arrived) == run.figures["requests"] == 60
    assert statistics.median(gaps_of(record)) == pytest.approx(1 / 30, abs=0.01), "they take turns"


@pytest.mark.slow
@pytest.mark.alone
def test_poisson_arrivals_are_irregular_and_have_the_rate(bench, photo):
    with serving() as (url, record):
        run = bench("--rate", 100, "--arrivals", "poisson", "-i", 4, photo, url)
    assert run.figures["settings"]["arrivals"] == "poisson"
    assert len(record.arrived) == pytest.approx(400, abs=5 * 20)
    gaps = gaps_of(record)
    # Exponential gaps: 39 % are shorter than half their mean, 22 % longer than one and a half of it; evenly spaced ones
    # are neither. What a busy machine holds up comes in a bunch, which has no gaps.
    assert 0.25 * len(gaps) <= sum(gap < 0.5 / 100 for gap in gaps) <= 0.6 * len(gaps)
    assert 0.12 * len(gaps) <= sum(gap > 1.5 / 100 for gap in gaps) <= 0.35 * len(gaps)


@pytest.mark.slow
def test_a_fixed_delay_is_every_percentile_in_an_open_loop_too(bench, photo):
    with serving(delay(0.6)) as (url, record), measured_stalls() as stalls:
        run = bench("--rate", 15, "-i", 4, photo, url)
    assert_percentiles(run.figures, record.took, stalls)


@pytest.mark.slow
def test_two_modes_show_in_their_percentiles(bench, photo):
    def behave(exchange: Exchange) -> None:
        time.sleep(1.8 if exchange.number % 5 == 4 else 0.6)
        exchange.answer()

    with serving(behave) as (url, record), measured_stalls() as stalls:
        run = bench("--rate", 15, "-i", 5, photo, url)
    assert_percentiles(run.figures, record.took, stalls)


@contextmanager
def stalling(after_s: float, stall_s: float, service_s: float) -> Iterator[tuple[str, Record]]:
    """A server that answers nothing for `stall_s` seconds, `after_s` seconds after its first request."""
    begun: list[float] = []

    def behave(exchange: Exchange) -> None:
        with exchange.record.lock:
            begun.append(time.monotonic())
        since = time.monotonic() - begun[0]
        if after_s <= since < after_s + stall_s:
            time.sleep(after_s + stall_s - since)
        time.sleep(service_s)
        exchange.answer()

    with serving(behave) as (url, record):
        yield url, record


@pytest.mark.slow
@pytest.mark.alone
def test_a_stall_of_two_seconds_shows_in_an_open_loop_as_theory_says_and_not_in_a_closed_one(tmp_path, photo):
    """At a constant rate the requests due in the stall wait for its rest, evenly from all of it down to nothing."""
    rate, seconds, stall_s, service_s = 40, 6, 2.0, 0.2
    with (
        stalling(2.0, stall_s, service_s) as (first, _),
        stalling(2.0, stall_s, 0.02) as (second, _),
        measured_stalls() as stalls,
    ):
        opened, run = together(
            tmp_path, ("--rate", rate, "-i", seconds, photo, first), ("-t", 2, "-i", seconds, photo, second)
        )
    closed, opened = run.figures, opened.figures
    stalled = [stall_s + service_s - place / rate for place in range(int(stall_s * rate))]
    assert_percentiles(opened, [service_s] * int((seconds - stall_s) * rate) + stalled, stalls)
    assert 1000 < closed["latency_ms"]["max"] < 2100 + stalls.ms
    assert closed["latency_ms"]["p99"] < 500 + stalls.ms, "only one request of each client met the stall"
    assert opened["latency_ms"]["p99"] > 1800
    assert "a closed loop cannot show" in run.notes


@pytest.mark.slow
@pytest.mark.alone
def test_a_bounded_pool_does_not_hide_the_wait_for_a_connection(bench, photo):
    with stalling(1.0, 2.0, 0.02) as (url, record), measured_stalls() as stalls:
        run = bench("--rate", 20, "-i", 5, "--connections", 3, photo, url)
    assert record.most_in_flight <= 3
    assert run.figures["requests"] == 100, "none is dropped"
    assert run.figures["waited_for_connection"] > 20
    assert run.figures["latency_ms"]["p90"] > 1000
    assert 2020 * 0.95 <= run.figures["latency_ms"]["max"] <= 2020 * 1.05 + stalls.ms
    assert "all 3 connections were busy" in run.notes


@contextmanager
def freezing(after_s: float, frozen_s: float) -> Iterator[str]:
    """A server stopped with SIGSTOP `after_s` seconds after its first request, and continued."""
    with separate_server("steady") as (url, server):

        def freeze() -> None:
            assert select.select([server.stdout], [], [], 60)[0], "no request came"
            time.sleep(after_s)
            os.kill(server.pid, signal.SIGSTOP)
            time.sleep(frozen_s)
            os.kill(server.pid, signal.SIGCONT)

        thread = threading.Thread(target=freeze)
        thread.start()
        try:
            yield url
        finally:
            thread.join()


@pytest.mark.slow
def test_a_server_frozen_for_six_of_twenty_seconds(tmp_path, photo):
    """Both loops meet the same freeze; only the open one can show it."""
    with freezing(6, 6) as url:
        opened, closed = together(tmp_path, ("--rate", 20, "-i", 20, photo, url), ("-t", 2, "-i", 20, photo, url))
    assert opened.figures["latency_ms"]["p99"] > 5000
    assert opened.code == 0, "it was slow and answered all"
    assert closed.figures["latency_ms"]["p99"] < 1000
    assert "a closed loop cannot show" in closed.notes


@pytest.mark.slow
def test_what_is_served_in_time_is_served_at_the_rate_that_was_asked_for(bench, photo):
    """Three requests two seconds apart span four seconds, and stand for six."""
    with serving() as (url, _):
        run = bench("--rate", 0.5, "-i", 6, "--warmup", 2, photo, url)
    assert run.figures["requests"] == 3
    assert run.figures["requests_per_s"] == pytest.approx(0.5, rel=0.01)
