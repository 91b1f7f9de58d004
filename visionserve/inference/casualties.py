import json
import logging
import mmap
from pathlib import Path

from visionserve.files import write_atomically
from visionserve.pulse import Pulse, Task

PAGE = 4096
PAGES = 1024
# Once or twice may be somebody else's fault, such as memory that ran out.
FATAL = 3
# Requests whose deaths are remembered: many more than one process can have in its batches.
REMEMBERED = 4096

log = logging.getLogger("visionserve")


class Casualties:
    """Which requests an engine was running when its process died, kept in a file for the process after it.

    A request that was in a batch as the process died comes back under the same id (the client sends it again): it then
    runs alone, so that it takes no other with it, and after FATAL deaths it is refused. With a `pulse`, it shows too
    how long each batch may run.
    """

    def __init__(self, file: Path, pulse: Pulse | None = None) -> None:
        self._pulse = pulse
        self._deaths_file = file.with_suffix(".json")
        self._deaths = self._known_deaths()
        try:
            if running := _running(file):
                self._count(running)
            self._map = _emptied(file)
        except OSError as error:
            log.warning("the requests that end this process will not be known to the next one: %s", error)
            self._map = mmap.mmap(-1, PAGE * PAGES)
        self._free = list(range(PAGES))

    def pages(self, count: int) -> list["RunningBatch"]:
        """One for each of the `count` threads of one engine, until it is closed; none where fewer are left."""
        if count > len(self._free):
            return []
        tasks: list[Task | None] = [*(self._pulse.tasks(count) if self._pulse else [])] or [None] * count
        return [RunningBatch(self._map, self._free, task) for task in tasks]

    def deaths(self, request_id: str) -> int:
        return self._deaths.get(request_id, 0)

    def _known_deaths(self) -> dict[str, int]:
        try:
            return dict(json.loads(self._deaths_file.read_bytes()))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s cannot be read, and begins anew: %s", self._deaths_file, error)
            return {}

    def _count(self, running: list[str]) -> None:
        # A request that was split into several batches died once.
        for name in dict.fromkeys(running):
            # Put last: those that died longest ago are forgotten first.
            self._deaths[name] = self._deaths.pop(name, 0) + 1
        self._deaths = dict(list(self._deaths.items())[-REMEMBERED:])
        write_atomically(self._deaths_file, json.dumps(self._deaths).encode())


class RunningBatch:
    """What one thread of an engine is running."""

    def __init__(self, memory: mmap.mmap, free: list[int], task: Task | None) -> None:
        self._memory = memory
        self._free = free
        self._number = free.pop()
        self._task = task

    def begin(self, request_ids: list[str], limit: float) -> None:
        """`limit`: seconds after which the process counts as hung."""
        line = " ".join(request_ids).encode()[: PAGE - 1]
        start = self._number * PAGE
        self._memory[start : start + len(line) + 1] = line + b"\0"
        if self._task is not None:
            self._task.begin(limit)

    def end(self) -> None:
        if self._task is not None:
            self._task.end()
        self._memory[self._number * PAGE] = 0

    def close(self) -> None:
        self._free.append(self._number)
        if self._task is not None:
            self._task.close()


def _running(file: Path) -> list[str]:
    data = file.read_bytes() if file.exists() else b""
    pages = [data[start : start + PAGE].split(b"\0", 1)[0] for start in range(0, len(data), PAGE)]
    return [name.decode(errors="replace") for page in pages for name in page.split()]


def _emptied(file: Path) -> mmap.mmap:
    # Written rather than left sparse, and used again: a disk that fills up meanwhile cannot take its room away.
    if not file.exists() or file.stat().st_size != PAGE * PAGES:
        file.write_bytes(bytes(PAGE * PAGES))
    with open(file, "r+b") as opened:
        memory = mmap.mmap(opened.fileno(), PAGE * PAGES)
    for start in range(0, PAGE * PAGES, PAGE):
        memory[start] = 0
    return memory
