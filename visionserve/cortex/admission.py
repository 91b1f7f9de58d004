import math
import time
from dataclasses import dataclass
from enum import Enum, auto

from visionserve.cortex.in_flight import Slot
from visionserve.errors import OverloadedError

# Under overload a request may take so many times the latency of a replica that has nothing else to do.
PATIENCE = 2.0
# What may be in flight in a burst: so many requests, twice those that are worked on, and what one thread answers in so
# many seconds. Clients who each wait for their answer before they ask again are no more than a burst.
BURST_SECONDS = 3.0
LEAST_BURST = 64
# Seconds over which finished and refused requests are averaged, and latencies of an idle replica for which they are
# averaged where requests are slow.
WINDOW_SECONDS, WINDOW_LATENCIES = 1.0, 4.0
# So few refusals say nothing yet, and are forgotten in a quiet moment.
FEW = 8
# Seconds between two looks at what the other workers have counted.
TICK = 0.02
# The weight of the newest latency in the mean of those of an idle replica. The first requests of all are slow.
SLOWER, QUICKER = 0.1, 0.5
# By which part the unloaded latency grows with each request that takes longer even at the least concurrency, so that a
# machine that became slower for good is believed after thousands of requests.
DRIFT = 1e-4


@dataclass(frozen=True, slots=True)
class Stay:
    """`entered`: a moment of time.monotonic; `alone`: nothing else was in flight then."""

    entered: float
    alone: bool


class Outcome(Enum):
    """How a request ended that was let in."""

    ANSWERED = auto()
    FAILED = auto()
    REFUSED = auto()


class Admission:
    """Decides which requests a replica takes, so that those that it takes are answered soon.

    A burst may wait. Once much of what arrives has to be refused, the replica takes only as many requests at once as it
    finishes within PATIENCE times its unloaded latency, by Little's law: concurrency = finished per second * latency.
    The completion rate and the unloaded latency are observed, as in Netflix's concurrency-limits and Envoy's adaptive
    concurrency filter (https://github.com/Netflix/concurrency-limits,
    https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/adaptive_concurrency_filter), and there
    is nothing to tune. Until a first request was answered, only `most` limits.
    """

    def __init__(
        self, counters: Slot, predictors: int, threads: int, own_threads: int, most: int, adapts: bool
    ) -> None:
        """`predictors`, `threads`: of the replica; `own_threads`: of this process; `most`: max_replica_concurrency.

        `adapts`: without it, only `most` limits.
        """
        self._counters = counters
        self._least = predictors
        self._threads = threads
        self._own_most = PATIENCE * own_threads
        self._own = 0
        self._most = most
        self._adapts = adapts
        self._seen = time.monotonic()
        self._totals = counters.finished(), counters.refused()
        self._finished = self._refused = 0.0
        self._quickest = math.inf

    def check(self) -> None:
        """Raises OverloadedError where a request that arrives now is to be refused."""
        total = self._counters.total()
        if total >= self._most:
            self._counters.add_refused()
            raise OverloadedError(
                f"More than max_replica_concurrency={self._most} requests are in flight: try again later."
            )
        if self._adapts and total >= self._least and (total >= self._limit() or self._is_full()):
            self._counters.add_refused()
            raise OverloadedError(
                f"More requests arrive than can be answered soon ({total} in flight): try again later."
            )

    def enter(self) -> Stay:
        """Counts a request that is worked on from now until `leave`. Raises OverloadedError as `check` does."""
        self.check()
        alone = self._counters.total() == 0
        self._counters.add(1)
        self._own += 1
        return Stay(time.monotonic(), alone)

    def check_wait(self, stay: Stay) -> None:
        """Raises OverloadedError for a request that waited too long for its thread while others are refused.

        From any thread.
        """
        unloaded = self._unloaded()
        if self._pressure() >= 1 and time.monotonic() - stay.entered > PATIENCE * unloaded:
            raise OverloadedError("More requests arrive than can be answered soon: try again later.")

    def leave(self, stay: Stay, outcome: Outcome) -> None:
        seconds = time.monotonic() - stay.entered
        if outcome is Outcome.ANSWERED:
            self._learn(seconds, stay.alone and self._counters.total() == 1)
        self._counters.add(-1)
        self._own -= 1
        if outcome is Outcome.REFUSED:
            self._counters.add_refused()
        else:
            self._counters.add_finished()

    def _learn(self, seconds: float, alone: bool) -> None:
        self._quickest = min(self._quickest, seconds)
        mean = self._counters.own_unloaded
        if alone:
            weight = SLOWER if seconds > mean else QUICKER
            self._counters.own_unloaded = mean + (seconds - mean) * weight if mean else seconds
        elif mean and seconds > PATIENCE * mean and self._counters.total() <= self._least:
            self._counters.own_unloaded = mean * (1 + DRIFT)

    def _limit(self) -> float:
        unloaded = self._unloaded()
        if not unloaded:
            return math.inf
        burst = max(2 * self._threads, LEAST_BURST, BURST_SECONDS / unloaded)
        self._observe(unloaded)
        pressure = self._pressure()
        if not pressure:
            return burst
        per_second = self._finished / self._window(unloaded)
        fitting = max(self._least, int(per_second * PATIENCE * unloaded))
        return burst - max(0.0, burst - fitting) * pressure

    def _is_full(self) -> bool:
        """Whether the queue for the threads of this process alone is too long, while others refuse."""
        return self._own >= self._own_most and self._pressure() >= 1

    def _unloaded(self) -> float:
        """Seconds; 0 while nothing is known."""
        return self._counters.unloaded() or (self._quickest if self._quickest < math.inf else 0.0)

    def _pressure(self) -> float:
        """0 where nothing was refused of late, 1 where half of what arrived was, and that was more than a few."""
        return min(1.0, 2 * self._refused / (self._finished + self._refused + FEW))

    def _observe(self, unloaded: float) -> None:
        now = time.monotonic()
        if now - self._seen < TICK:
            return
        kept = math.exp((self._seen - now) / self._window(unloaded))
        totals = self._counters.finished(), self._counters.refused()
        self._finished = self._finished * kept + totals[0] - self._totals[0]
        self._refused = self._refused * kept + totals[1] - self._totals[1]
        self._seen, self._totals = now, totals

    def _window(self, unloaded: float) -> float:
        return max(WINDOW_SECONDS, WINDOW_LATENCIES * unloaded)
