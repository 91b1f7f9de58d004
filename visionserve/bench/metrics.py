from dataclasses import dataclass

from visionserve.bench.pacing import NS_PER_S
from visionserve.bench.results import Outcome, Tally

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True)
class Metrics:
    """The figures of one run. Rates count what was served; latencies are in milliseconds, None when nothing was.

    `duration_s` is from the first request sent to the end of the last, by the clock all workers share.
    """

    requests: int
    served: int
    inferences: int
    errors: dict[str, int]
    error_examples: dict[str, str]
    duration_s: float
    requests_per_s: float
    inferences_per_s: float
    latency_ms: dict[str, float | None]
    connections: int
    client_cpu_s: float
    abandoned: int
    clients_given_up: int
    lost_workers: tuple[str, ...]
    interrupted: bool

    @property
    def failed(self) -> int:
        return self.requests - self.served

    @property
    def ok(self) -> bool:
        return not self.failed and not self.lost_workers and self.served > 0


def fold(outcome: Outcome) -> Metrics:
    tally = outcome.tally
    duration_s = 0.0 if tally.first_sent_ns is None else (tally.last_ended_ns - tally.first_sent_ns) / NS_PER_S
    return Metrics(
        requests=tally.served + tally.failed.total(),
        served=tally.served,
        inferences=tally.inferences,
        errors=dict(tally.failed.most_common()),
        error_examples=tally.examples,
        duration_s=duration_s,
        requests_per_s=tally.served / duration_s if duration_s else 0.0,
        inferences_per_s=tally.inferences / duration_s if duration_s else 0.0,
        latency_ms=_latencies(tally),
        connections=tally.connections,
        client_cpu_s=tally.cpu_s,
        abandoned=tally.abandoned,
        clients_given_up=tally.clients_given_up,
        lost_workers=tuple(outcome.lost_workers),
        interrupted=outcome.interrupted,
    )


def _latencies(tally: Tally) -> dict[str, float | None]:
    names = ["mean", *(f"p{percentile:g}" for percentile in PERCENTILES), "max"]
    if not tally.served:
        return dict.fromkeys(names)
    histogram = tally.latency_us
    at = histogram.get_percentile_to_value_dict(list(PERCENTILES))
    values_us = [histogram.get_mean_value(), *(at[p] for p in PERCENTILES), histogram.get_max_value()]
    return {name: value / 1000 for name, value in zip(names, values_us, strict=True)}
