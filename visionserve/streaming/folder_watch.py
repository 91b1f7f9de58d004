import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from visionserve.streaming.image_folder import find_images

SETTLED = 2.0


class _State(NamedTuple):
    size: int
    changed: int
    since: float


class FolderWatch:
    """Finds images in a folder that are new since the last look, once each.

    One is taken when its size and its time of change have stayed the same for SETTLED seconds, so that a file that is
    still being written is left alone. A file that is changed after it was taken is not taken again.
    """

    def __init__(self, folder: Path, seen: Iterable[str] = ()) -> None:
        """`seen`: names, relative to the folder, that count as taken."""
        self._folder = folder
        self._seen = set(seen)
        self._settling: dict[str, _State] = {}

    def look(self) -> list[str]:
        """The images that have come, sorted, relative to the folder; empty while the folder is not there."""
        settling: dict[str, _State] = {}
        come = []
        now = time.monotonic()
        for name, entry in find_images(self._folder):
            if name in self._seen:
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            state = _State(status.st_size, status.st_mtime_ns, now)
            before = self._settling.get(name, state)
            if before[:2] == state[:2]:
                state = before
            if now - state.since >= SETTLED:
                come.append(name)
            else:
                settling[name] = state
        self._settling = settling
        self._seen.update(come)
        return sorted(come)
