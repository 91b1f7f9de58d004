from pathlib import Path

from visionserve.errors import NotFoundError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")
DEFAULT = "default"


def read_named_image(folder: Path, name: str) -> bytes:
    """The image file of that name, with or without its extension; otherwise the one called `default`.

    The name is looked up among the folder's own files, so none leads out of it. Raises NotFoundError where there is no
    such file and no default.
    """
    files = {path.name: path for path in sorted(folder.glob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()}
    found = files | {path.stem: path for path in files.values()}
    path = found.get(name) or found.get(DEFAULT)
    if path is None:
        raise NotFoundError(f"There is no image {name!r} and none called {DEFAULT} in {folder}: put one there.")
    return path.read_bytes()
