import ipaddress
from collections.abc import Iterator

import psutil

from visionserve.bench.figures.units import count
from visionserve.bench.load.outcome import Outcome
from visionserve.bench.load.plan import Plan

# A worker's threads share one interpreter lock: it cannot use more than one core, and near that its own queue is
# part of every latency.
BUSY_WORKER = 0.8
BUSY_MACHINE = 0.25
LATE_MS = 5.0
LATE_FRACTION = 0.1
STALL_MS = 1000.0
STALL_TIMES_MEDIAN = 10.0


def about(outcome: Outcome, plan: Plan, duration_s: float) -> Iterator[str]:
    """What a reader of the figures must know to read them right, one sentence each."""
    yield from _client_limits(outcome, plan, duration_s)
    yield from _loop_limits(outcome, plan)
    yield from _ends(outcome)


def _client_limits(outcome: Outcome, plan: Plan, duration_s: float) -> Iterator[str]:
    if not duration_s:
        return
    busiest = max(outcome.cpu_s.values(), default=0.0) / duration_s
    if busiest > BUSY_WORKER:
        yield (
            f"the client was the limit, not the server: a worker used {busiest:.0%} of the one core that it can use; "
            f"measure with more workers (-w {plan.workers + 1})"
        )
    cores = psutil.cpu_count() or 1
    share = (sum(outcome.cpu_s.values()) + outcome.parent_cpu_s) / duration_s / cores
    if share > BUSY_MACHINE and _is_loopback(plan.endpoint.host):
        yield (
            f"the client took {share:.0%} of this machine's CPU from the server beside it: send the load from another "
            "machine for the server's own figures"
        )
    lags = outcome.tally.send_lag_us
    if plan.pacer.open_loop and lags is not None and lags.total_count:
        lag_ms = lags.get_value_at_percentile(99.0) / 1000
        p99_ms = outcome.tally.latency_us.get_value_at_percentile(99.0) / 1000
        if lag_ms > max(LATE_MS, LATE_FRACTION * p99_ms):
            yield f"the client sent late by {lag_ms:.1f} ms (p99), which is part of the latencies: raise -w"


def _loop_limits(outcome: Outcome, plan: Plan) -> Iterator[str]:
    tally = outcome.tally
    if plan.pacer.open_loop:
        if tally.waited_for_connection:
            yield (
                f"{count(tally.waited_for_connection, 'request')} waited because all {plan.clients} connections were "
                "busy; their latency counts from when they were due (--connections raises the bound)"
            )
    elif tally.served:
        slowest_ms = tally.latency_us.get_max_value() / 1000
        median_ms = tally.latency_us.get_value_at_percentile(50.0) / 1000
        if slowest_ms >= max(STALL_MS, STALL_TIMES_MEDIAN * median_ms):
            yield (
                f"the slowest request took {slowest_ms / 1000:.1f} s and its client sent nothing meanwhile: a closed "
                "loop cannot show how long others would have waited in such a stall; --rate does"
            )


def _ends(outcome: Outcome) -> Iterator[str]:
    if outcome.tally.warmup_failed:
        yield f"{count(outcome.tally.warmup_failed, 'request')} of the warm-up failed"
    for sentence in outcome.lost_workers:
        yield f"{sentence}; what it measured after its last report, at most a second, is not in these figures"
    if outcome.interrupted:
        yield f"interrupted; {count(outcome.tally.abandoned, 'request')} in flight abandoned and not counted"
    if outcome.workers_given_up:
        yield f"{count(outcome.workers_given_up, 'worker')} gave up: the endpoint no longer answered"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
