import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from visionserve.errors import MissingError, WeightsError, install_command
from visionserve.models.checksum import Checksum

# What a broken connection loses at most.
CHUNK = 1 << 14
# Above every file fetched here, so that a host that sends without end does not fill the disk.
LARGEST_FILE_BYTES = 1 << 28


@dataclass(frozen=True)
class Patience:
    """How long a host is waited for, in seconds, and how often in a row it may send nothing new."""

    connect: float = 5.0
    read: float = 20.0
    attempts: int = 4
    pause: float = 0.5


class _TryAgain(Exception):
    """A failure that may pass: the connection broke, or the host is busy."""


def download(url: str, target: Path, checksum: Checksum, patience: Patience | None = None) -> Path:
    """Fetches `url` to `target`, which appears only when whole and of the right hash.

    What a broken attempt got stays in `<target>.part` and the next one resumes it (HTTP Range, RFC 9110 section 14).
    A target that is there already with the right hash is returned as it is. Shows a progress bar on a terminal.
    Raises WeightsError when the host does not answer, refuses, or sends something else than was pinned.
    """
    patience = patience or Patience()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target), _progress_bar() as progress:
            if not (target.is_file() and checksum.matches(target)):
                _Transfer(url, target, checksum, patience, progress).run()
    except OSError as error:
        raise WeightsError(f"{target} could not be written: {error.strerror or error}") from error
    return target


class _Transfer:
    def __init__(self, url: str, target: Path, checksum: Checksum, patience: Patience, progress: Progress) -> None:
        self.url, self.target, self.checksum = url, target, checksum
        self.patience, self.progress = patience, progress
        self.part = target.with_name(target.name + ".part")
        self.task = progress.add_task(target.name, total=None)
        self.fruitless = 0

    def run(self) -> None:
        try:
            import tenacity
        except ImportError as error:
            raise MissingError(f"downloading weights needs tenacity: run {install_command('export')}") from error

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TryAgain),
            wait=tenacity.wait_exponential(self.patience.pause, max=8 * self.patience.pause),
            stop=lambda _: self.fruitless >= self.patience.attempts,
            reraise=True,
        )
        resumed = self._size() > 0
        try:
            retrying(self._attempt)
            if resumed and not self.checksum.matches(self.part):
                # What lay there was of another file, so only a fetch from the first byte tells.
                self.part.unlink()
                retrying(self._attempt)
        except _TryAgain as error:
            raise WeightsError(f"{error} (tried {self.fruitless} times in a row without a byte)") from error
        if not self.checksum.matches(self.part):
            self.part.unlink()
            raise WeightsError(
                f"{self.url} sent a file whose {self.checksum.algorithm} is not the pinned one, so it was discarded"
            )
        os.replace(self.part, self.target)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self) -> None:
        start = self._size()
        self.fruitless += 1
        try:
            _reach(self.url, self.patience.connect)
            self._receive(start)
        except (TimeoutError, requests.ConnectTimeout) as error:
            raise WeightsError(f"{self.url} did not answer within {self.patience.connect:g} s") from error
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _TryAgain(f"{self.url} broke off: {_cause(error)}") from error
        except requests.RequestException as error:
            raise WeightsError(f"{self.url} cannot be fetched: {_cause(error)}") from error
        finally:
            if self._size() > start:
                self.fruitless = 0

    def _receive(self, start: int) -> None:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        timeouts = (self.patience.connect, self.patience.read)
        with requests.get(self.url, headers=headers, stream=True, timeout=timeouts) as response:
            if response.status_code == 416:
                if not self.checksum.matches(self.part):
                    self.part.unlink()
                    raise _TryAgain(f"{self.url} has no bytes after {start}")
                return
            if response.status_code == 429 or response.status_code >= 500:
                raise _TryAgain(f"{self.url} answered {response.status_code} {response.reason}")
            if response.status_code not in (200, 206):
                raise WeightsError(f"{self.url} answered {response.status_code} {response.reason}")
            resumes = response.status_code == 206 and _first_byte(response) == start
            if response.status_code == 206 and not resumes:
                self.part.unlink(missing_ok=True)
                raise _TryAgain(f"{self.url} answered another range than the one asked for")
            self._store(response, start if resumes else 0)

    def _store(self, response: requests.Response, start: int) -> None:
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        self.progress.update(self.task, total=total, completed=start)
        received = start
        with self.part.open("ab" if start else "wb") as file:
            for block in response.iter_content(CHUNK):
                received += len(block)
                if received > LARGEST_FILE_BYTES:
                    raise WeightsError(f"{self.url} sends more than {LARGEST_FILE_BYTES} bytes")
                file.write(block)
                self.progress.update(self.task, completed=received)
            file.flush()
            os.fsync(file.fileno())


def _first_byte(response: requests.Response) -> int | None:
    """The first byte's position in a `Content-Range: bytes 5-9/10`."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
    return int(first) if first.isdecimal() else None


def _reach(url: str, seconds: float) -> None:
    """Fails within about `seconds` where nothing answers, however many addresses the host has."""
    proxies = requests.utils.get_environ_proxies(url)
    address = urlsplit(requests.utils.select_proxy(url, proxies) or url)
    if address.hostname is None or address.scheme not in ("http", "https"):
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        candidates = socket.getaddrinfo(address.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _TryAgain(f"{url} cannot be reached: {address.hostname}: {error.strerror}") from error
    deadline = time.monotonic() + seconds
    failure: OSError | None = None
    for family, kind, protocol, _, peer in candidates:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            break
        with socket.socket(family, kind, protocol) as probe:
            probe.settimeout(min(remaining, seconds / 2) if len(candidates) > 1 else remaining)
            try:
                probe.connect(peer)
                return
            except OSError as error:
                failure = error
    if failure is None or isinstance(failure, TimeoutError):
        raise TimeoutError
    raise _TryAgain(f"{url} cannot be reached: {address.hostname}:{port}: {failure.strerror}") from failure


def _cause(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error) or type(error).__name__


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Two processes that want the same file fetch it once."""
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _progress_bar() -> Progress:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
