"""The folder in which the processes of an API keep their metrics: prometheus_client's multiprocess mode, some files for
each process, and one for each type of metric that holds the sums of all that have ended."""

import fcntl
import logging
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# What prometheus_client makes a file of. Only live gauges are used, which end with their process.
TYPES = ("counter", "histogram", "gauge_livesum", "gauge_livemax")
FILE_BYTES = 1 << 16
# Seconds to wait for those who read, one of which may hang.
PATIENCE = 0.25
ENDED = "ended"
# What prometheus_client raises on a file that is empty, cut or damaged.
UNREADABLE = (OSError, RuntimeError, ValueError, IndexError, struct.error)

log = logging.getLogger("visionserve")


def keep_in(folder: Path) -> bool:
    """Has this process keep its metrics in `folder`; to be called before prometheus_client is imported.

    Where the disk is full, or the folder cannot be written, they stay in this process's memory, and the log says so:
    False. The files get their room now, because a full disk would end a process that writes into one mapped to memory.
    """
    os.environ.pop(VARIABLE, None)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for kind in TYPES:
            file = folder / f"{kind}_{os.getpid()}.db"
            # A process that had the same number may have left one: its counters are counted on.
            if kind.startswith("gauge") or not file.exists():
                _room(file, FILE_BYTES).replace(file)
    except OSError as error:
        log.warning("the metrics of this process are not kept in %s: %s", folder, error.strerror)
        return False
    os.environ[VARIABLE] = str(folder)
    return True


def is_used() -> bool:
    """Whether this process keeps its metrics in a folder."""
    return VARIABLE in os.environ


def collect(folder: Path) -> list[Any]:
    """The metrics of all processes, as prometheus_client's Metric; none where there is no folder.

    A file that cannot be read is left out.
    """
    try:
        with _locked(folder, fcntl.LOCK_SH):
            files = [str(file) for file in folder.glob("*.db")]
            try:
                return _merged(files)
            except UNREADABLE:
                return _merged([file for file in files if _is_readable(file)])
    except (FileNotFoundError, NotADirectoryError):
        return []


def absorb(folder: Path, pid: int | None = None) -> None:
    """Adds the counters of process `pid`, which has ended, to the sums of the ended, and forgets its gauges.

    `pid`: None for every process, where none lives any more. So does it with what other ended processes have left.
    """
    try:
        ended = [file for file in folder.glob("*.db") if _has_ended(file, pid)]
        for file in ended:
            if file.name.startswith("gauge"):
                file.unlink(missing_ok=True)
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) if ended else nullcontext():
            for file in ended:
                if file.exists():
                    _add(file, file.with_name(f"{file.stem.rpartition('_')[0]}_{ENDED}.db"))
                    file.unlink()
    except OSError as error:
        log.warning("the metrics of ended processes in %s are not summed up now: %s", folder, error.strerror)


def _has_ended(file: Path, pid: int | None) -> bool:
    import psutil

    owner = file.stem.rpartition("_")[2]
    return owner.isdecimal() and (pid is None or int(owner) == pid or not psutil.pid_exists(int(owner)))


def _add(file: Path, sums: Path) -> None:
    from prometheus_client.mmap_dict import MmapedDict

    totals: dict[str, float] = {}
    for source in (sums, file):
        if source.exists() and _is_readable(str(source)):
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(source)):
                totals[key] = totals.get(key, 0.0) + value
    fresh = _room(sums, max(FILE_BYTES, sum(len(key.encode()) + 32 for key in totals)))
    values = MmapedDict(str(fresh))
    for key, value in totals.items():
        values.write_value(key, value, 0.0)
    values.close()
    fresh.replace(sums)


def _room(file: Path, size: int) -> Path:
    """A new file that is to become `file`, with `size` bytes that the disk does have."""
    fresh = file.with_suffix(".new")
    try:
        with open(fresh, "wb", opener=_private) as opened:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(opened.fileno(), 0, size)
            opened.truncate(size)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    return fresh


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _merged(files: list[str]) -> list[Any]:
    from prometheus_client.multiprocess import MultiProcessCollector

    return list(MultiProcessCollector.merge(files, accumulate=True))


def _is_readable(file: str) -> bool:
    try:
        _merged([file])
    except UNREADABLE as error:
        log.warning("the metrics in %s cannot be read and are left out: %s", file, error)
        return False
    return True


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Readers see each ended process once: in its own file or in the sums. The folder itself is locked, which a full
    disk does not hinder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    deadline = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                fcntl.flock(descriptor, how)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)
