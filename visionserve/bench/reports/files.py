import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from visionserve.errors import MissingError, UsageError
from visionserve.files import write_atomically

if TYPE_CHECKING:
    from visionserve.bench.figures.document import Run

PAGES = (".html", ".htm")


def check_writable(option: str, path: Path) -> None:
    """Raises UsageError, before any load, for a file that could not be written after it."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise UsageError(f"{option} {path} cannot be written: {folder} is not a folder that you may write to.")


def check_report(path: Path) -> None:
    """Raises UsageError for a file that a page could not be written to, and MissingError without Bokeh."""
    # A result that stands where the page's name should be is not to be overwritten.
    if path.suffix.lower() not in PAGES:
        raise UsageError(f"--report {path} is no name for a web page: let it end in .html.")
    check_writable("--report", path)
    if find_spec("bokeh") is None:
        raise MissingError("--report draws its charts with Bokeh, which is not installed: pip install bokeh.")


def write_report(path: Path, entries: Sequence[tuple[str, "Run"]]) -> None:
    """Writes the page of these runs, each with its name. Raises UsageError."""
    from visionserve.bench.reports import page

    html = page.html(entries)
    try:
        write_atomically(path, html.encode())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"--report {path} cannot be written: {reason}.") from error
