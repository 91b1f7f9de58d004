"""Files of deployments: this user's alone, and one sentence where they cannot be read or written."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visionserve.errors import DeploymentError

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
_ELSEWHERE = "or set XDG_STATE_HOME to another folder"
_ADVICE = {
    errno.ENOSPC: f"free some space there, {_ELSEWHERE}",
    errno.EDQUOT: f"free some of your quota, {_ELSEWHERE}",
    errno.EROFS: f"mount it writable, {_ELSEWHERE}",
    errno.EACCES: f"let this user write there, {_ELSEWHERE}",
    errno.EPERM: f"let this user write there, {_ELSEWHERE}",
    errno.EISDIR: "a file is due there, so move that folder away",
    errno.ENOTDIR: "a folder is due there, so move that file away",
    errno.EEXIST: "a folder is due there, so move that file away",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "this machine has too many files open",
}


def explanation(error: OSError, folder: Path) -> str:
    """One sentence about a failed access to the files in `folder`."""
    where = error.filename or folder
    advice = _ADVICE.get(error.errno or 0, f"look after that file, {_ELSEWHERE}")
    return f"{where} cannot be used ({error.strerror or error}): {advice}."


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Raises DeploymentError in place of an OSError on the files in `folder`."""
    try:
        yield
    except OSError as error:
        raise DeploymentError(explanation(error, folder)) from error


def make_private_folder(folder: Path) -> None:
    """Makes it, or takes its permissions from others. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    if folder.stat().st_mode & 0o077:
        folder.chmod(PRIVATE_FOLDER)


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a file that is this user's alone from its creation on. Raises OSError."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    if os.fstat(descriptor).st_mode & 0o077:
        os.fchmod(descriptor, PRIVATE_FILE)
    return descriptor
