from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visionserve.errors import ModelError, UsageError
from visionserve.files import folder_written_atomically
from visionserve.models.builds.manifest import NAME, Manifest, read_manifest

RESNET50 = "resnet50"
MODEL_FILES = (NAME, "saved_model.pb", "model.xml")


@contextmanager
def build_written_atomically(folder: Path) -> Iterator[Path]:
    """Yields an empty folder that takes `folder`'s place when the block ends without an error.

    Raises UsageError before that where `folder` holds something else than a build, ModelError where it cannot be
    written; what was there stays.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder with --output")
    if folder.is_dir() and any(folder.iterdir()) and not _holds_build(folder):
        raise UsageError(f"{folder} holds something else than a model; name another folder with --output")
    try:
        with folder_written_atomically(folder) as work:
            yield work
    except OSError as error:
        raise ModelError(f"{folder} could not be written: {error.strerror or error}") from error


def find_versions(model: Path) -> list[tuple[int, Path]]:
    """The numbered versions in a model's folder and their folders, rising; a folder that is a build itself is its
    only version, 1."""
    if _holds_build(model):
        return [(1, model)]
    numbered = [(int(path.name), path) for path in model.glob("*") if path.name.isascii() and path.name.isdigit()]
    return sorted((number, path) for number, path in numbered if _holds_build(path))


def find_cpu_build(folder: Path) -> tuple[Path, Manifest]:
    """The version folder of the CPU build at `folder`, which is one or holds numbered ones, and its manifest.

    Raises ModelError, which says how to make one, where there is none or its files are not those that were written.
    """
    versions = find_versions(folder)
    version = versions[-1][1] if versions else folder
    try:
        manifest = read_manifest(version)
    except ModelError as error:
        raise ModelError(
            f"there is no CPU build at {folder}: run visionserve export cpu, or name one with --model"
        ) from error
    if manifest.model != RESNET50:
        raise ModelError(f"{version} is a build of {manifest.model}: name a CPU build of {RESNET50} with --model")
    if manifest.target != "cpu":
        raise ModelError(f"{version} is a build for {manifest.target}: name a CPU build with --model")
    if not manifest.describes(version):
        raise ModelError(f"{version} is not as it was written: run visionserve export cpu again")
    return version, manifest


def size(folder: Path) -> int:
    """In bytes, of all files of a build."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _holds_build(folder: Path) -> bool:
    return any((folder / name).is_file() for name in MODEL_FILES)
