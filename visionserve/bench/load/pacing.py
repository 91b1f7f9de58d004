import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

NS_PER_S = 1_000_000_000


class Schedule(Protocol):
    """The requests still to come of those who share it: one client in a closed loop, a worker's in an open one."""

    def next_due_ns(self, elapsed_ns: int) -> int | None:
        """Nanoseconds after the start at which the next request is due; None when the run is over.

        `elapsed_ns` is the time since the start. A closed loop answers `elapsed_ns` itself: send now.
        """


class Pacer(Protocol):
    """When requests are due. Picklable, as it travels to the worker processes.

    The first `warmup_s` seconds are not measured; `samples` and `seconds` count from their end, and one is None.
    """

    @property
    def open_loop(self) -> bool: ...

    @property
    def warmup_s(self) -> float: ...

    @property
    def samples(self) -> int | None: ...

    @property
    def seconds(self) -> float | None: ...

    def schedule(self, worker: int, workers: int) -> Schedule:
        """A new schedule in worker `worker` (from 0) of `workers`."""


@dataclass(frozen=True)
class FixedCount:
    """Closed loop: `samples` requests, each sent when the one before it was answered."""

    samples: int
    warmup_s: float = 0.0
    seconds: float | None = field(default=None, init=False)
    open_loop: bool = field(default=False, init=False)

    def schedule(self, worker: int, workers: int) -> Schedule:
        return _Counted(self.samples, round(self.warmup_s * NS_PER_S))

    def __str__(self) -> str:
        return f"{self.samples} requests each" if self.samples != 1 else "1 request each"


@dataclass
class _Counted:
    left: int
    warmup_ns: int

    def next_due_ns(self, elapsed_ns: int) -> int | None:
        if elapsed_ns >= self.warmup_ns:
            self.left -= 1
        return elapsed_ns if self.left >= 0 else None


@dataclass(frozen=True)
class UntilDeadline:
    """Closed loop: requests one after the other; none is sent once `seconds` have passed."""

    seconds: float
    warmup_s: float = 0.0
    samples: int | None = field(default=None, init=False)
    open_loop: bool = field(default=False, init=False)

    def schedule(self, worker: int, workers: int) -> Schedule:
        return _Timed(round((self.warmup_s + self.seconds) * NS_PER_S))

    def __str__(self) -> str:
        return f"for {self.seconds:g} s"


@dataclass
class _Timed:
    end_ns: int

    def next_due_ns(self, elapsed_ns: int) -> int | None:
        return elapsed_ns if elapsed_ns < self.end_ns else None


@dataclass(frozen=True)
class ConstantRate:
    """Open loop: `rate` requests a second, evenly spaced, whether or not earlier ones were answered."""

    rate: float
    seconds: float
    warmup_s: float = 0.0
    samples: int | None = field(default=None, init=False)
    open_loop: bool = field(default=True, init=False)
    arrivals: str = field(default="constant", init=False)

    def schedule(self, worker: int, workers: int) -> Schedule:
        def dues() -> Iterator[float]:
            number = worker
            while True:
                yield number / self.rate
                number += workers

        return _Arrivals(dues(), self.warmup_s + self.seconds)

    def __str__(self) -> str:
        return f"{self.rate:g} requests/s for {self.seconds:g} s"


@dataclass(frozen=True)
class PoissonRate:
    """Open loop: arrivals of a Poisson process of `rate` requests a second, the same ones for the same `seed`.

    Independent Poisson processes add up to one of their summed rate, so each worker makes its own.
    """

    rate: float
    seconds: float
    warmup_s: float = 0.0
    seed: int = 1
    samples: int | None = field(default=None, init=False)
    open_loop: bool = field(default=True, init=False)
    arrivals: str = field(default="poisson", init=False)

    def schedule(self, worker: int, workers: int) -> Schedule:
        def dues() -> Iterator[float]:
            # Arrivals need no secrecy, but must be the same again for the same seed.
            generator = random.Random(f"{self.seed} {worker}")  # nosec B311
            due = 0.0
            while True:
                due += generator.expovariate(self.rate / workers)
                yield due

        return _Arrivals(dues(), self.warmup_s + self.seconds)

    def __str__(self) -> str:
        return f"{self.rate:g} requests/s (Poisson arrivals) for {self.seconds:g} s"


@dataclass
class _Arrivals:
    dues_s: Iterator[float]
    end_s: float

    def next_due_ns(self, elapsed_ns: int) -> int | None:
        due_s = next(self.dues_s)
        return round(due_s * NS_PER_S) if due_s < self.end_s else None
