from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil

from hdrh.histogram import HdrHistogram

from visionserve.bench.load.results import Tally, decoded, histogram

MAX_SPANS = 3600


@dataclass(frozen=True)
class Span:
    """What ended in one stretch of the timeline: `start_s` counts from the start of measuring, latencies are in ms.

    A latency is None when nothing was served in the span.
    """

    start_s: float
    length_s: float
    requests: int
    inferences: int
    errors: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


@dataclass
class _Sums:
    requests: int = 0
    inferences: int = 0
    errors: int = 0
    latencies: list[str | bytes] = field(default_factory=list)

    def add(self, other: "_Sums") -> None:
        self.requests += other.requests
        self.inferences += other.inferences
        self.errors += other.errors
        self.latencies = [_encoded(self.latencies + other.latencies)]


class Timeline:
    """What ended in each second, in bounded memory: past an hour, spans double in length."""

    def __init__(self) -> None:
        self._length_s = 1
        self._sums: dict[int, _Sums] = {}

    def add(self, second: int, tally: Tally) -> None:
        sums = self._sums.setdefault(second // self._length_s, _Sums())
        sums.requests += tally.requests
        sums.inferences += tally.inferences
        sums.errors += tally.failed.total()
        if tally.served:
            sums.latencies.append(tally.latency_us.encode())
        if len(self._sums) > MAX_SPANS:
            self._coarsen()

    def spans(self) -> tuple[Span, ...]:
        """One for every stretch from the start of measuring to the last answer, those without an answer too."""
        return tuple(self._span(index, index + 1) for index in range(self._count()))

    def windows(self, number: int, skip_s: float) -> tuple[Span, ...]:
        """The complete spans after `skip_s` seconds in `number` windows of equal length; of the first ones, those
        that do not fit are left out too.

        Empty when there are fewer spans than windows. The last span is taken for incomplete.
        """
        complete = self._count() - 1
        length = max(0, complete - ceil(skip_s / self._length_s)) // number
        starts = range(complete - number * length, complete, length) if length else ()
        return tuple(self._span(start, start + length) for start in starts)

    def _count(self) -> int:
        return max(self._sums, default=-1) + 1

    def _span(self, first: int, end: int) -> Span:
        sums = [self._sums[index] for index in range(first, end) if index in self._sums]
        latencies = [encoded for part in sums for encoded in part.latencies]
        p50 = p99 = highest = None
        if latencies:
            merged = _merged(latencies)
            at = merged.get_percentile_to_value_dict([50.0, 99.0])
            p50, p99, highest = at[50.0] / 1000, at[99.0] / 1000, merged.get_max_value() / 1000
        return Span(
            start_s=first * self._length_s,
            length_s=(end - first) * self._length_s,
            requests=sum(part.requests for part in sums),
            inferences=sum(part.inferences for part in sums),
            errors=sum(part.errors for part in sums),
            p50_ms=p50,
            p99_ms=p99,
            max_ms=highest,
        )

    def _coarsen(self) -> None:
        halved: dict[int, _Sums] = {}
        for index, sums in self._sums.items():
            halved.setdefault(index // 2, _Sums()).add(sums)
        self._sums, self._length_s = halved, self._length_s * 2


def _merged(latencies: Iterable[str | bytes]) -> HdrHistogram:
    merged = histogram()
    for encoded in latencies:
        merged.add(decoded(encoded))
    return merged


def _encoded(latencies: list[str | bytes]) -> bytes:
    encoded: bytes = _merged(latencies).encode()
    return encoded
