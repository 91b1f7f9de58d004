from collections import Counter
from typing import Any, NamedTuple

from hdrh.histogram import HdrHistogram

from visionserve.bench.transport import failures
from visionserve.bench.transport.failures import Failure

HIGHEST_US = 3_600_000_000  # one hour, the longest time-out the command takes
SIGNIFICANT_DIGITS = 3


def histogram() -> HdrHistogram:
    """An empty one of microseconds (https://hdrhistogram.github.io/HdrHistogram/), exact within 0.1 %."""
    return HdrHistogram(1, HIGHEST_US, SIGNIFICANT_DIGITS)


class Result(NamedTuple):
    """One request. Times are of the machine's monotonic clock, in nanoseconds; latency counts from `due_ns`."""

    due_ns: int
    sent_ns: int
    ended_ns: int
    images: int
    failure: Failure | None = None
    waited_for_connection: bool = False
    bytes_sent: int = 0
    bytes_received: int = 0


class Tally:
    """What many results add up to, in memory that does not grow with them.

    Tallies are pickled to the parent and merged there, the histograms bucket by bucket: no percentile is averaged.
    Only served requests have a latency; only those that found a free connection have a send lag, which is how late
    this client was by its own fault.
    """

    def __init__(self) -> None:
        self.served = 0
        self.inferences = 0
        self.failed: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.abandoned = 0
        self.warmup_requests = 0
        self.warmup_failed = 0
        self.waited_for_connection = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.first_sent_ns: int | None = None
        self.last_ended_ns = 0
        self.latency_us = histogram()
        self.send_lag_us: HdrHistogram | None = None

    @property
    def requests(self) -> int:
        return self.served + self.failed.total()

    def add(self, result: Result) -> None:
        failure = result.failure
        if self.first_sent_ns is None or result.sent_ns < self.first_sent_ns:
            self.first_sent_ns = result.sent_ns
        self.last_ended_ns = max(self.last_ended_ns, result.ended_ns)
        self.bytes_sent += result.bytes_sent
        self.bytes_received += result.bytes_received
        if result.waited_for_connection:
            self.waited_for_connection += 1
        elif result.sent_ns > result.due_ns:
            self._lags().record_value(min((result.sent_ns - result.due_ns) // 1000, HIGHEST_US))
        if failure is None:
            self.served += 1
            self.inferences += result.images
            self.latency_us.record_value(min((result.ended_ns - result.due_ns) // 1000, HIGHEST_US))
        elif failure.kind == failures.ABANDONED:
            self.abandoned += 1
        else:
            self.failed[failure.kind] += 1
            self.examples.setdefault(failure.kind, failure.detail)

    def add_warmup(self, failed: bool) -> None:
        self.warmup_requests += 1
        self.warmup_failed += failed

    def merge(self, other: "Tally") -> None:
        self.served += other.served
        self.inferences += other.inferences
        self.failed += other.failed
        self.examples = other.examples | self.examples
        self.abandoned += other.abandoned
        self.warmup_requests += other.warmup_requests
        self.warmup_failed += other.warmup_failed
        self.waited_for_connection += other.waited_for_connection
        self.bytes_sent += other.bytes_sent
        self.bytes_received += other.bytes_received
        starts = [start for start in (self.first_sent_ns, other.first_sent_ns) if start is not None]
        self.first_sent_ns = min(starts, default=None)
        self.last_ended_ns = max(self.last_ended_ns, other.last_ended_ns)
        self.latency_us.add(other.latency_us)
        if other.send_lag_us is not None:
            self._lags().add(other.send_lag_us)

    def _lags(self) -> HdrHistogram:
        if self.send_lag_us is None:
            self.send_lag_us = histogram()
        return self.send_lag_us

    def __getstate__(self) -> dict[str, Any]:
        lags = None if self.send_lag_us is None else self.send_lag_us.encode()
        return self.__dict__ | {"latency_us": self.latency_us.encode(), "send_lag_us": lags}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.latency_us = decoded(state["latency_us"])
        if state["send_lag_us"] is not None:
            self.send_lag_us = decoded(state["send_lag_us"])


def decoded(encoded: bytes | str) -> HdrHistogram:
    """The histogram of `HdrHistogram.encode()`: base64 of the compressed V2 format."""
    empty = histogram()
    empty.decode_and_add(encoded)
    return empty
