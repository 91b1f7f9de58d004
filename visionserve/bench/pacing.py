from dataclasses import dataclass
from typing import Protocol

NS_PER_S = 1_000_000_000


class Pacer(Protocol):
    """When each request of one client is due. Picklable, as it travels to the worker processes."""

    def due_ns(self, number: int, elapsed_ns: int) -> int | None:
        """Nanoseconds after the start at which request `number` (from 0) is due; None when the run is over.

        `elapsed_ns` is the time since the start. A closed loop answers `elapsed_ns` itself: send now.
        """


@dataclass(frozen=True)
class FixedCount:
    """Closed loop: `samples` requests, each sent when the one before it was answered."""

    samples: int

    def due_ns(self, number: int, elapsed_ns: int) -> int | None:
        return elapsed_ns if number < self.samples else None

    def __str__(self) -> str:
        return f"{self.samples} requests each" if self.samples != 1 else "1 request each"


@dataclass(frozen=True)
class UntilDeadline:
    """Closed loop: requests one after the other; none is sent once `seconds` have passed."""

    seconds: float

    def due_ns(self, number: int, elapsed_ns: int) -> int | None:
        return elapsed_ns if elapsed_ns < self.seconds * NS_PER_S else None

    def __str__(self) -> str:
        return f"for {self.seconds:g} s"
