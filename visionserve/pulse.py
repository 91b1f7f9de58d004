import asyncio
import mmap
import struct
import time
from itertools import groupby
from pathlib import Path

# Seconds between two beats.
BEAT = 0.25
# Heart beats that are this many seconds late mean that no answer can be expected now.
LATE = 2.0
# A task that has used this part of its limit is late too.
LATE_SHARE = 1 / 3

_HEAD = struct.Struct("<dq")  # the last beat; tasks that may be running
_TASK = struct.Struct("<ddq")  # begin, or 0 for none; limit in seconds; group
_TASKS = 1024


class Pulse:
    """Signs of life of one process, in a file that its supervisor and its siblings map too.

    The process writes when its event loop last turned, and what its other threads have begun and how long that may
    take. Moments are time.monotonic's, which all processes of a machine share and which no clock change moves.
    """

    def __init__(self, file: Path) -> None:
        with open(file, "r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), _HEAD.size + _TASKS * _TASK.size)
        self._groups = 0
        self._free = list(reversed(range(_TASKS)))

    @classmethod
    def create(cls, file: Path) -> "Pulse":
        # Written rather than left sparse: a full disk is an error here, and not a signal in the middle of a beat.
        file.write_bytes(bytes(_HEAD.size + _TASKS * _TASK.size))
        return cls(file)

    def clear(self) -> None:
        """For the next process, when the one before is gone."""
        self._memory[:] = bytes(len(self._memory))

    async def beat(self) -> None:
        """Runs on the event loop that is watched, until it is canceled."""
        while True:
            struct.pack_into("<d", self._memory, 0, time.monotonic())
            await asyncio.sleep(BEAT)

    def tasks(self, count: int) -> list["Task"]:
        """For so many threads that do the same kind of work, such as those of one engine."""
        if count > len(self._free):
            return []
        self._groups += 1
        numbers = [self._free.pop() for _ in range(count)]
        beat, used = _HEAD.unpack_from(self._memory)
        _HEAD.pack_into(self._memory, 0, beat, max(used, *(number + 1 for number in numbers)))
        return [Task(self, number, self._groups) for number in numbers]

    def write(self, number: int, begin: float, limit: float, group: int) -> None:
        start = _HEAD.size + number * _TASK.size
        # A reader may look between the two: it must find no begin with another limit.
        _TASK.pack_into(self._memory, start, 0.0, limit, group)
        struct.pack_into("<d", self._memory, start, begin)

    def release(self, number: int) -> None:
        self.write(number, 0.0, 0.0, 0)
        self._free.append(number)

    def hang(self, now: float, since: float, heart_limit: float) -> str:
        """What stands still, as a clause; "" when nothing does. Time before `since` does not count."""
        beat, _ = _HEAD.unpack_from(self._memory)
        if (still := now - max(beat, since)) > heart_limit:
            return f"its event loop has stood still for {still:.1f} s"
        for begin, limit, _ in self._running():
            if begin and (still := now - max(begin, since)) > limit:
                return f"a batch has been running for {still:.1f} s, and {limit:.1f} s is far more than one needs"
        return ""

    def answers(self, now: float) -> bool:
        """Whether the event loop turns, and some thread of each group is not late."""
        beat, _ = _HEAD.unpack_from(self._memory)
        tasks = sorted(self._running(), key=lambda task: task[2])
        groups = [list(group) for number, group in groupby(tasks, key=lambda task: task[2]) if number]
        return now - beat <= LATE and all(
            any(not begin or now - begin <= limit * LATE_SHARE for begin, limit, _ in group) for group in groups
        )

    def _running(self) -> list[tuple[float, float, int]]:
        _, used = _HEAD.unpack_from(self._memory)
        return list(_TASK.iter_unpack(self._memory[_HEAD.size : _HEAD.size + used * _TASK.size]))


class Task:
    """What one thread is doing."""

    def __init__(self, pulse: Pulse, number: int, group: int) -> None:
        self._pulse = pulse
        self._number = number
        self._group = group
        self.end()

    def begin(self, limit: float) -> None:
        """`limit`: seconds after which it counts as hung."""
        self._pulse.write(self._number, time.monotonic(), limit, self._group)

    def end(self) -> None:
        self._pulse.write(self._number, 0.0, 0.0, self._group)

    def close(self) -> None:
        self._pulse.release(self._number)
