import os
from collections.abc import Iterator
from pathlib import Path

from visionserve.errors import UsageError

# The formats that vision reads.
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")


def check_image_folder(folder: Path) -> None:
    """Raises UsageError where there is no such folder."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise UsageError(f"--imageFolder {folder} {what}: name a folder with images.")


def list_images(folder: Path) -> list[str]:
    """The images in a folder and the folders below it, as paths relative to it with "/", sorted.

    Raises UsageError where there are none.
    """
    check_image_folder(folder)
    names = sorted(name for name, _ in find_images(folder))
    if not names:
        raise UsageError(f"--imageFolder {folder} holds no image: none of its files ends in {', '.join(SUFFIXES)}.")
    return names


def find_images(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Each image in a folder and the folders below it: its path relative to it, and its entry.

    Images are told by the ends of their names. A name that is no UTF-8 comes with escapes in it, under which there is
    no file. Hidden files and folders are left out, and what is no file: pipes, sockets, devices, and links to them, to
    folders and to nothing.
    Files that come and go meanwhile may be in it or not.
    """
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            entries = os.scandir(folder / below)
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{below}{entry.name}/")
                elif entry.name.lower().endswith(SUFFIXES) and _is_file(entry):
                    yield _printable(below + entry.name), entry


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        # For instance a link to itself.
        return False


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
