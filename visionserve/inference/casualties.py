import json
import mmap
from pathlib import Path

from visionserve.files import write_atomically

PAGE = 4096
PAGES = 1024
# Once or twice may be somebody else's fault, such as memory that ran out.
FATAL = 3


class Casualties:
    """Which requests an engine was running when its process died, kept in a file for the process after it.

    A request that was in a batch as the process died comes back under the same id (the client sends it again): it then
    runs alone, so that it takes no other with it, and after FATAL deaths it is refused.
    """

    def __init__(self, file: Path) -> None:
        self._deaths_file = file.with_suffix(".json")
        self._deaths: dict[str, int] = json.loads(self._deaths_file.read_bytes()) if self._deaths_file.exists() else {}
        running = _read(file) if file.exists() else []
        if running:
            self._deaths = {name: self._deaths.get(name, 0) + 1 for name in running}
            write_atomically(self._deaths_file, json.dumps(self._deaths).encode())
        with open(file, "w+b") as opened:
            opened.truncate(PAGE * PAGES)
            self._map = mmap.mmap(opened.fileno(), PAGE * PAGES)
        self._free = list(range(PAGES))

    def page(self) -> "RunningBatch":
        """For one thread of one engine, until it is closed."""
        return RunningBatch(self._map, self._free)

    def deaths(self, request_id: str) -> int:
        return self._deaths.get(request_id, 0)


class RunningBatch:
    def __init__(self, memory: mmap.mmap, free: list[int]) -> None:
        self._memory = memory
        self._free = free
        self._number = free.pop()

    def begin(self, request_ids: list[str]) -> None:
        line = " ".join(request_ids).encode()[: PAGE - 1]
        start = self._number * PAGE
        self._memory[start : start + len(line) + 1] = line + b"\0"

    def end(self) -> None:
        self._memory[self._number * PAGE] = 0

    def close(self) -> None:
        self._free.append(self._number)


def _read(file: Path) -> list[str]:
    data = file.read_bytes()
    pages = [data[start : start + PAGE].split(b"\0", 1)[0] for start in range(0, len(data), PAGE)]
    return [name.decode() for page in pages for name in page.split()]
