import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from visionserve.cortex.disk import open_private

POLL_SECONDS = 0.2
LOG_BYTES, LOG_FILES = 20 << 20, 5


class LogFile(logging.Handler):
    """Appends lines to a file that is rotated: `files` older ones of `size` bytes are kept, as NAME.1 (the newest) on.

    A line that cannot be written is dropped and counted, and the next one that can be is preceded by the count.
    """

    def __init__(self, path: Path, size: int = LOG_BYTES, files: int = LOG_FILES) -> None:
        """Raises OSError where the file cannot be opened."""
        super().__init__()
        self.dropped = 0
        self._path = path
        self._size = size
        self._files = files
        self._full = size
        self._why = ""
        self._descriptor = self._open()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            status = os.fstat(self._descriptor)
            if status.st_nlink == 0:
                self._reopen()
            elif status.st_size >= self._full:
                self._rotate(status.st_size)
            if self.dropped:
                lost = logging.makeLogRecord({**record.__dict__, "args": None, "exc_info": None, "exc_text": None})
                lost.msg = f"supervisor: {self.dropped} lines before this one could not be written: {self._why}"
                self._write(lost)
                self.dropped = 0
            self._write(record)
        except OSError as error:
            self.dropped += 1
            self._why = error.strerror or str(error)

    def _write(self, record: logging.LogRecord) -> None:
        line = self.format(record).encode(errors="replace") + b"\n"
        before = os.fstat(self._descriptor).st_size
        if os.write(self._descriptor, line) < len(line):
            # What fitted on the disk would be the beginning of the next line that can be written.
            os.ftruncate(self._descriptor, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _rotate(self, size: int) -> None:
        try:
            for number in range(self._files - 1, 0, -1):
                with suppress(FileNotFoundError):
                    os.replace(f"{self._path}.{number}", f"{self._path}.{number + 1}")
            os.replace(self._path, f"{self._path}.1")
        except OSError:
            # A folder that cannot be written: the file goes on, and the next try is a file's length away.
            self._full = size + self._size
            return
        self._reopen()

    def _reopen(self) -> None:
        descriptor = self._open()
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._full = self._size

    def _open(self) -> int:
        return open_private(self._path, os.O_WRONLY | os.O_APPEND)


def lines(path: Path, follow: bool) -> Iterator[str]:
    """The lines of a log; with `follow` without end, through rotations too."""
    while True:
        with open(path, errors="replace") as file:
            yield from file
            if not follow:
                return
            while not _replaced(path, file.fileno()):
                time.sleep(POLL_SECONDS)
                yield from file


def _replaced(path: Path, descriptor: int) -> bool:
    return path.exists() and path.stat().st_ino != os.fstat(descriptor).st_ino
