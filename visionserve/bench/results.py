from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hdrh.histogram import HdrHistogram

from visionserve.bench import failures
from visionserve.bench.failures import Failure

HIGHEST_US = 3_600_000_000  # one hour, the longest time-out the command takes
SIGNIFICANT_DIGITS = 3


class Result(NamedTuple):
    """One request. Times are of the machine's monotonic clock, in nanoseconds; latency counts from `due_ns`."""

    due_ns: int
    sent_ns: int
    ended_ns: int
    images: int
    failure: Failure | None = None


class Tally:
    """What many results add up to, in memory that does not grow with them.

    Each client keeps one of its own, so that none waits for a lock; tallies are merged in the worker, pickled to the
    parent and merged there, the histograms bucket by bucket (https://hdrhistogram.github.io/HdrHistogram/).
    Only served requests have a latency.
    """

    def __init__(self) -> None:
        self.served = 0
        self.inferences = 0
        self.failed: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.abandoned = 0
        self.connections = 0
        self.clients_given_up = 0
        self.cpu_s = 0.0
        self.first_sent_ns: int | None = None
        self.last_ended_ns = 0
        self.latency_us = HdrHistogram(1, HIGHEST_US, SIGNIFICANT_DIGITS)

    def add(self, result: Result) -> None:
        failure = result.failure
        if self.first_sent_ns is None or result.sent_ns < self.first_sent_ns:
            self.first_sent_ns = result.sent_ns
        self.last_ended_ns = max(self.last_ended_ns, result.ended_ns)
        if failure is None:
            self.served += 1
            self.inferences += result.images
            self.latency_us.record_value(min((result.ended_ns - result.due_ns) // 1000, HIGHEST_US))
        elif failure.kind == failures.ABANDONED:
            self.abandoned += 1
        else:
            self.failed[failure.kind] += 1
            self.examples.setdefault(failure.kind, failure.detail)

    def merge(self, other: "Tally") -> None:
        self.served += other.served
        self.inferences += other.inferences
        self.failed += other.failed
        self.examples = other.examples | self.examples
        self.abandoned += other.abandoned
        self.connections += other.connections
        self.clients_given_up += other.clients_given_up
        self.cpu_s += other.cpu_s
        starts = [start for start in (self.first_sent_ns, other.first_sent_ns) if start is not None]
        self.first_sent_ns = min(starts, default=None)
        self.last_ended_ns = max(self.last_ended_ns, other.last_ended_ns)
        self.latency_us.add(other.latency_us)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"latency_us": self.latency_us.encode()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.latency_us = HdrHistogram(1, HIGHEST_US, SIGNIFICANT_DIGITS)
        self.latency_us.decode_and_add(state["latency_us"])


@dataclass
class Outcome:
    """All workers' tallies merged, and what kept the run from being whole."""

    tally: Tally = field(default_factory=Tally)
    lost_workers: list[str] = field(default_factory=list)
    interrupted: bool = False
