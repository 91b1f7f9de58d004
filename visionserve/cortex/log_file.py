import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from visionserve.cortex.disk import open_private
from visionserve.errors import DeploymentError

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
            if not _is_at(self._path, status):
                # Moved or removed, or another run of the API that drains has rotated it.
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
            # Of two runs that find the file full one rotates it; the other then finds that it was. Its next descriptor
            # ends the lock.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(self._path, os.fstat(self._descriptor)):
                self._reopen()
                return
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


class LogReader:
    """Reads a log as it grows, through rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def skip(self) -> None:
        """What the log holds by now is not given."""
        if file := self._opened():
            file.seek(0, os.SEEK_END)

    def new(self) -> Iterator[str]:
        """The lines since the last time; none where there is no file yet."""
        while file := self._opened():
            # Asked first: what was written until then is read to its end.
            replaced = self._path.exists() and not _is_at(self._path, os.fstat(file.fileno()))
            yield from file
            if not replaced:
                return
            file.close()
            self._file = None

    def _opened(self) -> TextIO | None:
        if self._file is None:
            with suppress(FileNotFoundError):
                self._file = os.fdopen(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC), errors="replace")
        return self._file


def lines(path: Path, follow: bool) -> Iterator[str]:
    """The lines of a log; with `follow` without end, through rotations too, and waiting for a file that is missing.

    Raises DeploymentError where it is missing otherwise.
    """
    reader = LogReader(path)
    if not follow and not path.exists():
        raise DeploymentError(
            f"The log {path} is missing: it was moved or removed, and begins anew with the API's next line; -f waits "
            "for it."
        )
    yield from reader.new()
    while follow:
        time.sleep(POLL_SECONDS)
        yield from reader.new()


def _is_at(path: Path, status: os.stat_result) -> bool:
    """Whether `status` is that of the file at the path."""
    try:
        return os.path.samestat(os.stat(path), status)
    except FileNotFoundError:
        return False
    except OSError:
        # A folder that this user may not enter any more does not take the file away.
        return True
