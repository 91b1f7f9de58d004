from collections.abc import Iterable, Sequence
from math import inf, nan
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram

from visionserve.bench.figures.document import Run
from visionserve.bench.figures.units import count

# What keeps a page of many long runs under 2 MB.
MAX_SPANS = 12_000
HIGHEST_PERCENTILE_AT = 10_000  # 1 / (1 - 0.9999)
CURVE_POINTS = 160
BINS = 60

Columns = dict[str, Any]


def steps(runs: Iterable[Run]) -> Columns:
    """One point for each run, in order of load: inferences/s, p50 and p99 in ms."""
    ordered = sorted(runs, key=_load)
    return {
        "rate": [run.inferences_per_s for run in ordered],
        "p50": [_known(run.latency_ms["p50"]) for run in ordered],
        "p99": [_known(run.latency_ms["p99"]) for run in ordered],
        "load": [load(run) for run in ordered],
        "short": [f"{_load(run):g}" for run in ordered],
        "failed": [run.failed for run in ordered],
        "requests": [run.requests for run in ordered],
    }


def load(run: Run) -> str:
    """What the steps of a sweep differ in."""
    settings = run.settings
    return count(settings.clients, "client") if settings.rate is None else f"{settings.rate:g} requests/s"


def spans_a_point(runs: Sequence[Run]) -> int:
    """How many spans of the timelines share a point, so that all have no more than MAX_SPANS points."""
    return max(1, -(-sum(len(run.timeline) for run in runs) // MAX_SPANS))


def timeline(run: Run, every: int) -> Columns:
    """One point for `every` spans: seconds, inferences/s, failed requests/s, and the highest p50 and p99 in ms.

    The last span is measured to the end of the run; less than half a span is too short for a rate.
    """
    groups = [run.timeline[first : first + every] for first in range(0, len(run.timeline), every)]
    start = _floats(group[0].start_s for group in groups)
    length = _floats(sum(span.length_s for span in group) for group in groups)
    inferences = _floats(sum(span.inferences for span in group) for group in groups)
    measured = np.minimum(length, np.float32(run.duration_s) - start)
    long_enough = measured >= length / 2
    return {
        "start": start,
        "length": length,
        "time": start + length / 2,
        "rate": np.where(long_enough, inferences / np.where(long_enough, measured, 1), np.float32(nan)),
        "errors": _floats(sum(span.errors for span in group) for group in groups) / length,
        "p50": _floats(_highest(span.p50_ms for span in group) for group in groups),
        "p99": _floats(_highest(span.p99_ms for span in group) for group in groups),
    }


def percentiles(histogram_us: HdrHistogram) -> Columns:
    """Latencies in ms at x = 1 / (1 - quantile), from the fastest request to the slowest or to 99.99 %."""
    last = min(histogram_us.total_count, HIGHEST_PERCENTILE_AT)
    if not last:
        return {"x": [], "percentile": [], "latency": []}
    decades = [float(tick) for tick in (2, 10, 100, 1000, HIGHEST_PERCENTILE_AT) if tick <= last]
    x = np.unique([*np.geomspace(1, last, CURVE_POINTS), *decades])
    ranks = [100 * (1 - 1 / value) for value in x.tolist()]
    at = histogram_us.get_percentile_to_value_dict(ranks)
    return {"x": _floats(x), "percentile": _floats(ranks), "latency": _floats(at[rank] / 1000 for rank in ranks)}


def bins(histograms_us: Sequence[HdrHistogram]) -> tuple[list[Columns], bool]:
    """The share of the requests, in %, in BINS bins of latency in ms that all histograms have in common.

    Also whether the bins are equal on a logarithmic axis, instead of a linear one.
    """
    recorded = [
        [(item.value_iterated_to / 1000, item.count_at_value_iterated_to) for item in histogram.get_recorded_iterator()]
        for histogram in histograms_us
    ]
    latencies = [latency for items in recorded for latency, _ in items] or [1.0]
    log = is_wide(latencies)
    lowest, highest = min(latencies) * 0.999, max(latencies) * 1.001
    edges = np.geomspace(lowest, highest, BINS + 1) if log else np.linspace(lowest, highest, BINS + 1)
    return [_binned(items, edges) for items in recorded], log


def is_wide(values: Iterable[float], ratio: float = 10) -> bool:
    """Whether these span so much that a linear axis would hide the low ones."""
    positive = [value for value in values if value > 0]
    return max(positive, default=-inf) > ratio * min(positive, default=inf)


def _binned(items: Sequence[tuple[float, int]], edges: Any) -> Columns:
    requests, _ = np.histogram([latency for latency, _ in items], edges, weights=[number for _, number in items])
    filled = requests > 0
    return {
        "left": edges[:-1][filled],
        "right": edges[1:][filled],
        "requests": requests[filled],
        "share": 100 * requests[filled] / max(1, requests.sum()),
    }


def _load(run: Run) -> float:
    return run.settings.clients if run.settings.rate is None else run.settings.rate


def _known(value: float | None) -> float:
    return nan if value is None else value


def _highest(values: Iterable[float | None]) -> float:
    return max((value for value in values if value is not None), default=nan)


def _floats(values: Iterable[float]) -> Any:
    return np.fromiter(values, np.float32)
