import mmap
import struct
from pathlib import Path

_SLOT = struct.Struct("<q")


class InFlight:
    """Requests in flight in a replica, counted across its worker processes without a lock.

    A file of one 64-bit counter per worker, mapped by all: each writes its own slot and reads the sum. The sum may be
    off by the requests that arrive in the same microsecond in other workers.
    """

    def __init__(self, path: Path, slots: int) -> None:
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), slots * _SLOT.size)
        self._slots = slots

    @classmethod
    def create(cls, path: Path, slots: int) -> "InFlight":
        path.write_bytes(bytes(slots * _SLOT.size))
        return cls(path, slots)

    def slot(self, number: int) -> "Slot":
        return Slot(self, number)

    def total(self) -> int:
        return sum(value for (value,) in _SLOT.iter_unpack(self._memory))

    def add(self, slot: int, change: int) -> None:
        """Only the worker of `slot` may call this, from one thread."""
        (value,) = _SLOT.unpack_from(self._memory, slot * _SLOT.size)
        _SLOT.pack_into(self._memory, slot * _SLOT.size, value + change)

    def clear(self, slot: int) -> None:
        """For a slot whose worker is gone."""
        _SLOT.pack_into(self._memory, slot * _SLOT.size, 0)


class Slot:
    """A worker's own counter, and the sum of all."""

    def __init__(self, counters: InFlight, number: int) -> None:
        self._counters = counters
        self._number = number

    def total(self) -> int:
        return self._counters.total()

    def add(self, change: int) -> None:
        """Only from one thread."""
        self._counters.add(self._number, change)


class Count:
    """The same for a replica of one process."""

    def __init__(self) -> None:
        self._total = 0

    def total(self) -> int:
        return self._total

    def add(self, change: int) -> None:
        """Only from one thread."""
        self._total += change
