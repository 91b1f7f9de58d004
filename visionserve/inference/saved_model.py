from collections.abc import Iterator
from pathlib import Path

from visionserve.errors import ModelError

# The name, size in bytes and time of change in nanoseconds of each file.
Fingerprint = tuple[tuple[str, int, int], ...]


def find_version(folder: Path) -> tuple[int, Path]:
    """The highest version under a model folder laid out as TensorFlow Serving reads it: FOLDER/VERSION/saved_model.pb.

    A folder that is itself a SavedModel counts as version 1. Raises ModelError for anything else.
    """
    if not folder.is_dir():
        raise ModelError(
            f"The model folder {folder} is missing: make it with visionserve export, or correct model_path."
        )
    for version, path in find_versions(folder):
        return version, path
    raise ModelError(
        f"{folder} is not a SavedModel: it holds neither saved_model.pb nor a numbered version folder with one."
    )


def find_versions(folder: Path) -> Iterator[tuple[int, Path]]:
    """Every version under a model folder and its own folder, the highest first, found as they are asked for.

    A folder that is itself a SavedModel is its only version, 1. Raises OSError when the folder cannot be read.
    """
    if is_saved_model(folder):
        yield 1, folder
        return
    children = {int(child.name): child for child in folder.iterdir() if child.name.isascii() and child.name.isdigit()}
    for version in sorted(children, reverse=True):
        if is_saved_model(children[version]):
            yield version, children[version]


def is_saved_model(folder: Path) -> bool:
    return (folder / "saved_model.pb").is_file()


def fingerprint(folder: Path) -> Fingerprint:
    """Changes with the graph or the variables of a SavedModel. Raises OSError when it goes away meanwhile."""
    files = [folder / "saved_model.pb", *sorted((folder / "variables").glob("*"))]
    states = [(file.name, file.stat()) for file in files]
    return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)
