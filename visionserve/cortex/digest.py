import hashlib
import os
import sys
from pathlib import Path

from visionserve import __version__
from visionserve.cortex.remote_models import RemoteModels
from visionserve.cortex.spec.api import ApiSpec
from visionserve.inference.model_settings import ModelSettings

TEXT_SUFFIXES = (".py", ".json", ".yaml", ".yml", ".txt")
LARGEST_TEXT = 1 << 20
SKIPPED_FOLDERS = ("__pycache__", "node_modules")


def digest_of(
    spec: ApiSpec,
    models: list[ModelSettings],
    on_cpu: bool,
    remote: RemoteModels | None = None,
    served: tuple[object, ...] = (),
) -> str:
    """Changes when anything does that a new deployment would run differently. `served`: other options that count."""
    digest = hashlib.sha256(f"{__version__} {sys.version} {spec.model_dump_json()} {on_cpu} {remote} {served}".encode())
    for path in _project_files(spec.project):
        digest.update(os.fsencode(path) + b" " + hashlib.sha256(path.read_bytes()).digest())
    for model in models:
        digest.update(model.model_dump_json().encode())
        paths = sorted(model.path.rglob("*")) if model.engine != "null" else []
        # A link to nothing is no reason to fail: what the engine needs of a model, it misses by name.
        for path in [path for path in paths if path.exists()]:
            status = path.stat()
            digest.update(os.fsencode(path) + f" {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def _is_skipped(folder: Path) -> bool:
    # A virtual environment in the project, whatever it is called, holds tens of thousands of files.
    return folder.name in SKIPPED_FOLDERS or (folder / "pyvenv.cfg").exists()


def _project_files(project: Path) -> list[Path]:
    """The small text files that can change what a predictor does; hidden folders and environments are left out."""
    found = []
    for folder, folders, names in os.walk(project):
        folders[:] = [name for name in folders if not name.startswith(".") and not _is_skipped(Path(folder, name))]
        paths = [Path(folder, name) for name in names]
        found += [path for path in paths if path.suffix in TEXT_SUFFIXES and path.is_file()]
    return sorted(path for path in found if path.stat().st_size <= LARGEST_TEXT)
