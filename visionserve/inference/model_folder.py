from collections.abc import Iterator
from pathlib import Path

from visionserve.errors import ModelError, export_command

SAVED_MODEL = "saved_model.pb"
OPENVINO_GRAPH = "model.xml"
OPENVINO_WEIGHTS = "model.bin"

# The name, size in bytes and time of change in nanoseconds of each file.
Fingerprint = tuple[tuple[str, int, int], ...]


def find_version(folder: Path) -> tuple[int, Path]:
    """The highest version under a model folder laid out as TensorFlow Serving reads it, FOLDER/VERSION, and its folder.

    A version is a SavedModel (saved_model.pb) or an OpenVINO model (model.xml and model.bin). A folder that is itself
    one counts as version 1. Raises ModelError for anything else.
    """
    if not folder.is_dir():
        raise ModelError(
            f"The model folder {folder} is missing: make it with {export_command(folder)}, or correct model_path."
        )
    for version, path in find_versions(folder):
        return version, path
    raise ModelError(
        f"{folder} is not a SavedModel or an OpenVINO model: it holds neither {SAVED_MODEL}, nor {OPENVINO_GRAPH} and "
        f"{OPENVINO_WEIGHTS}, nor a numbered version folder with them."
    )


def find_versions(folder: Path) -> Iterator[tuple[int, Path]]:
    """Every version under a model folder and its own folder, the highest first, found as they are asked for.

    A folder that is itself a model is its only version, 1. Raises OSError when the folder cannot be read.
    """
    if is_model(folder):
        yield 1, folder
        return
    children = {int(child.name): child for child in folder.iterdir() if child.name.isascii() and child.name.isdigit()}
    for version in sorted(children, reverse=True):
        if is_model(children[version]):
            yield version, children[version]


def is_model(folder: Path) -> bool:
    return is_saved_model(folder) or is_openvino_model(folder)


def is_saved_model(folder: Path) -> bool:
    return (folder / SAVED_MODEL).is_file()


def is_openvino_model(folder: Path) -> bool:
    """Whether it is a model in OpenVINO's own format and not also a SavedModel, which goes first."""
    files = (folder / OPENVINO_GRAPH, folder / OPENVINO_WEIGHTS)
    return not is_saved_model(folder) and all(file.is_file() for file in files)


def fingerprint(folder: Path) -> Fingerprint:
    """Changes with the graph or the weights of a model. Raises OSError when it goes away meanwhile."""
    files = [folder / SAVED_MODEL, *sorted((folder / "variables").glob("*"))]
    if is_openvino_model(folder):
        files = [folder / OPENVINO_GRAPH, folder / OPENVINO_WEIGHTS]
    states = [(file.name, file.stat()) for file in files]
    return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)
