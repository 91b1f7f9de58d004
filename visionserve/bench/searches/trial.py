from bisect import bisect_left
from dataclasses import dataclass

from visionserve.bench.figures import notes
from visionserve.bench.figures.document import Run
from visionserve.bench.load.outcome import Outcome
from visionserve.bench.load.pacing import NS_PER_S
from visionserve.bench.load.plan import Plan
from visionserve.bench.load.results import decoded
from visionserve.bench.searches.latency_limit import LatencyLimit
from visionserve.bench.transport import failures

# A request counts as unanswered this much after its limit: workers report each second, not in the same moment.
REPORT_MARGIN_S = 3.0
# From here on a failed trial is not an accident: most requests were over the limit, and they were not a few.
CLEAR_SHARE = 0.5
CLEAR_OVER = 10
# How long to leave a server alone that was cut off without having served anything.
REST_UNKNOWN_S = 10.0


@dataclass(frozen=True)
class Trial:
    """One open-loop run at `rate` requests/s, and whether it met the limit.

    `client_limit` says in what way the client, not the server, kept it from that.
    """

    rate: float
    run: Run
    over: int
    met: bool
    clear: bool
    drain_s: float
    client_limit: str | None


class Cut:
    """The watch that ends a trial as soon as more requests are over the limit than all of `plan` allow.

    A request that should long have been answered counts as over it, so that a server which hangs is noticed too.
    """

    def __init__(self, limit: LatencyLimit, plan: Plan) -> None:
        self.made = False
        self._limit = limit
        self._dues_s = measured_dues_s(plan)
        self._allowed = limit.allowed(len(self._dues_s))
        self._second = -1

    def __call__(self, outcome: Outcome) -> bool:
        if outcome.second > self._second and not self.made:
            self._second, tally = outcome.second, outcome.tally
            over = self._limit.over(tally.latency_us) + tally.failed.total()
            answered_by_now_s = self._second + 1 - self._limit.limit_s - REPORT_MARGIN_S
            unanswered = max(0, bisect_left(self._dues_s, answered_by_now_s) - tally.requests)
            self.made = over + unanswered > self._allowed
        return self.made


def measured_dues_s(plan: Plan) -> list[float]:
    """When the requests of an open loop are due, in seconds from the end of the warm-up, those of the warm-up left
    out."""
    warmup_ns = round(plan.pacer.warmup_s * NS_PER_S)
    dues: list[float] = []
    for worker in range(plan.processes):
        schedule = plan.pacer.schedule(worker, plan.processes)
        while (due_ns := schedule.next_due_ns(0)) is not None:
            if due_ns >= warmup_ns:
                dues.append((due_ns - warmup_ns) / NS_PER_S)
    return sorted(dues)


def judged(rate: float, run: Run, plan: Plan, limit: LatencyLimit, cut: bool) -> Trial:
    over = limit.over_in(run)
    whole = not cut and not run.workers_given_up and not run.lost_workers
    return Trial(
        rate=rate,
        run=run,
        over=over,
        met=whole and run.requests > 0 and over <= limit.allowed(run.requests),
        clear=over >= CLEAR_OVER and over >= CLEAR_SHARE * run.requests,
        drain_s=_drain_s(run, plan),
        client_limit=_client_limit(run, plan, limit),
    )


def _drain_s(run: Run, plan: Plan) -> float:
    """How long a server works on after the end: it does not see that nobody waits for an answer any more."""
    left_behind = run.abandoned + min(run.errors.get(failures.TIMEOUT, 0), plan.clients)
    if not left_behind:
        return 0.0
    return min(plan.timeout_s, left_behind / run.requests_per_s if run.requests_per_s else REST_UNKNOWN_S)


def _client_limit(run: Run, plan: Plan, limit: LatencyLimit) -> str | None:
    if run.lost_workers:
        return run.lost_workers[0]
    if run.client_busiest > notes.BUSY_WORKER:
        return f"a worker used {run.client_busiest:.0%} of the one core that it can use (raise -w)"
    lag_ms = (run.send_lag_ms or {}).get("p99") or 0.0
    reached_ms = decoded(run.latency_histogram).get_value_at_percentile(limit.percentile) / 1000
    if lag_ms > notes.LATE_MS and limit.limit_ms < reached_ms <= limit.limit_ms + lag_ms:
        return f"it sent late by {lag_ms:.1f} ms (p99), without which the limit might have held (raise -w)"
    # With all connections busy, each answer took clients / throughput (Little's law): below the limit, more of them
    # might have been answered in time.
    if run.waited_for_connection > limit.allowed(run.requests) and plan.clients <= run.requests_per_s * limit.limit_s:
        return f"requests waited for its {plan.clients} connections although answers came in time (raise --connections)"
    return None
