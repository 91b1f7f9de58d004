import mmap
import struct
from pathlib import Path

# A worker's requests in flight, those that it has finished and refused, and its unloaded latency in seconds.
_SLOT = struct.Struct("<qqqd")
_FIELDS = _SLOT.size // 8
_IN_FLIGHT, _FINISHED, _REFUSED, _UNLOADED = range(_FIELDS)


class InFlight:
    """What the worker processes of a replica know together of its requests, without a lock.

    Memory of one slot per worker, mapped by all: each writes its own slot and reads every one. A sum may be off by the
    requests that arrive in the same microsecond in other workers.
    """

    def __init__(self, path: Path | None, slots: int) -> None:
        """`path`: the file that `create` made; None for a replica of one process."""
        if path is None:
            memory = mmap.mmap(-1, slots * _SLOT.size)
        else:
            with path.open("r+b") as file:
                memory = mmap.mmap(file.fileno(), slots * _SLOT.size)
        self._numbers = memoryview(memory).cast("q")
        self._seconds = memoryview(memory).cast("d")

    @classmethod
    def create(cls, path: Path, slots: int) -> "InFlight":
        path.write_bytes(bytes(slots * _SLOT.size))
        return cls(path, slots)

    def slot(self, number: int) -> "Slot":
        return Slot(self, number)

    def total(self) -> int:
        return sum(self._numbers[_IN_FLIGHT::_FIELDS])

    def finished(self) -> int:
        return sum(self._numbers[_FINISHED::_FIELDS])

    def refused(self) -> int:
        return sum(self._numbers[_REFUSED::_FIELDS])

    def unloaded(self) -> float:
        """Seconds, the mean of the workers that know it; 0 while none does."""
        known = [seconds for seconds in self._seconds[_UNLOADED::_FIELDS] if seconds]
        return sum(known) / len(known) if known else 0.0

    def add(self, slot: int, field: int, change: int) -> None:
        """Only the worker of `slot` may call this, from one thread."""
        self._numbers[slot * _FIELDS + field] += change

    def set_unloaded(self, slot: int, seconds: float) -> None:
        """Only the worker of `slot` may call this."""
        self._seconds[slot * _FIELDS + _UNLOADED] = seconds

    def own_unloaded(self, slot: int) -> float:
        return self._seconds[slot * _FIELDS + _UNLOADED]

    def clear(self, slot: int) -> None:
        """For a slot whose worker is gone: nothing of it is in flight. The next worker keeps what it learned."""
        self._numbers[slot * _FIELDS + _IN_FLIGHT] = 0


class Slot:
    """A worker's own counters, and the sums of all. To be written from one thread only."""

    def __init__(self, counters: InFlight, number: int) -> None:
        self._counters = counters
        self._number = number
        self.total = counters.total
        self.finished = counters.finished
        self.refused = counters.refused
        self.unloaded = counters.unloaded

    def add(self, change: int) -> None:
        self._counters.add(self._number, _IN_FLIGHT, change)

    def add_finished(self) -> None:
        self._counters.add(self._number, _FINISHED, 1)

    def add_refused(self) -> None:
        self._counters.add(self._number, _REFUSED, 1)

    @property
    def own_unloaded(self) -> float:
        """Seconds, 0 while unknown."""
        return self._counters.own_unloaded(self._number)

    @own_unloaded.setter
    def own_unloaded(self, seconds: float) -> None:
        self._counters.set_unloaded(self._number, seconds)


class Count(Slot):
    """The same for a replica of one process."""

    def __init__(self) -> None:
        super().__init__(InFlight(None, 1), 0)
