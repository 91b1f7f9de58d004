from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

from visionserve.bench.figures import notes
from visionserve.bench.figures.stability import Stability, stability
from visionserve.bench.load.outcome import Outcome
from visionserve.bench.load.pacing import NS_PER_S
from visionserve.bench.load.plan import Plan
from visionserve.bench.load.timeline import Span

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
LATENCIES = ("mean", *(f"p{percentile:g}" for percentile in PERCENTILES), "max")


@dataclass(frozen=True)
class Metrics:
    """The figures of one run, those of its warm-up left out.

    Rates count what was served, over `duration_s`: from the first request sent to the end of the last, by the clock
    all workers share; in an open loop at least the time for which requests were due. Latencies are in milliseconds,
    None when nothing was served.
    """

    requests: int
    served: int
    failed: int
    inferences: int
    errors: dict[str, int]
    error_examples: dict[str, str]
    duration_s: float
    requests_per_s: float
    inferences_per_s: float
    latency_ms: dict[str, float | None]
    latency_histogram: str
    send_lag_ms: dict[str, float | None] | None
    waited_for_connection: int
    bytes_sent: int
    bytes_received: int
    connections: int
    client_cpu_s: float
    client_busiest: float
    warmup_requests: int
    timeline: tuple[Span, ...]
    stability: Stability
    notes: tuple[str, ...]
    abandoned: int
    workers_given_up: int
    lost_workers: tuple[str, ...]
    interrupted: bool

    @property
    def ok(self) -> bool:
        return not self.failed and not self.lost_workers and not self.workers_given_up and self.served > 0


def fold(outcome: Outcome, plan: Plan) -> Metrics:
    """The figures of a run of `plan`."""
    tally = outcome.tally
    duration_s = _duration_s(outcome, plan)
    steadiness = stability(outcome, plan)
    return Metrics(
        requests=tally.requests,
        served=tally.served,
        failed=tally.failed.total(),
        inferences=tally.inferences,
        errors=dict(tally.failed.most_common()),
        error_examples=tally.examples,
        duration_s=duration_s,
        requests_per_s=tally.served / duration_s if duration_s else 0.0,
        inferences_per_s=tally.inferences / duration_s if duration_s else 0.0,
        latency_ms=summary_ms(tally.latency_us),
        latency_histogram=tally.latency_us.encode().decode("ascii"),
        send_lag_ms=summary_ms(tally.send_lag_us) if plan.pacer.open_loop else None,
        waited_for_connection=tally.waited_for_connection,
        bytes_sent=tally.bytes_sent,
        bytes_received=tally.bytes_received,
        connections=outcome.connections,
        client_cpu_s=sum(outcome.cpu_s.values()) + outcome.parent_cpu_s,
        client_busiest=max(outcome.cpu_s.values(), default=0.0) / duration_s if duration_s else 0.0,
        warmup_requests=tally.warmup_requests,
        timeline=outcome.timeline.spans(),
        stability=steadiness,
        notes=tuple(notes.about(outcome, plan, duration_s)),
        abandoned=tally.abandoned,
        workers_given_up=outcome.workers_given_up,
        lost_workers=tuple(outcome.lost_workers),
        interrupted=outcome.interrupted,
    )


def _duration_s(outcome: Outcome, plan: Plan) -> float:
    first_ns, last_ns = outcome.tally.first_sent_ns, outcome.tally.last_ended_ns
    if first_ns is None:
        return 0.0
    if plan.pacer.open_loop and plan.pacer.seconds is not None and outcome.whole:
        # The first and the last request are one interval less apart than the time that they stand for.
        first_ns = outcome.measured_from_ns
        last_ns = max(last_ns, first_ns + round(plan.pacer.seconds * NS_PER_S))
    return (last_ns - first_ns) / NS_PER_S


def summary_ms(histogram_us: HdrHistogram | None) -> dict[str, float | None]:
    """LATENCIES of a histogram of microseconds, in milliseconds; None when it is empty."""
    if histogram_us is None or not histogram_us.total_count:
        return dict.fromkeys(LATENCIES)
    at = histogram_us.get_percentile_to_value_dict(list(PERCENTILES))
    values_us = [histogram_us.get_mean_value(), *(at[p] for p in PERCENTILES), histogram_us.get_max_value()]
    return {name: value / 1000 for name, value in zip(LATENCIES, values_us, strict=True)}
