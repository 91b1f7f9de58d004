"""What test processes that run side by side make once for all: a model, an environment, an installed package."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

FOLDER = Path(__file__).resolve().parent.parent / ".pytest_cache"


@contextmanager
def setup_lock() -> Iterator[None]:
    """Held by the process that makes it; the others wait, and find it made."""
    FOLDER.mkdir(exist_ok=True)
    with FileLock(FOLDER / "setup.lock"):
        yield
