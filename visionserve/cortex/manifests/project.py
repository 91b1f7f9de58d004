import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionserve.cortex.manifests.models import local_locations
from visionserve.cortex.project_files import IGNORE_FILE, project_files
from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import UsageError

PROJECT = "/srv/project"
# A ConfigMap holds 1 MiB in all, and its YAML needs part of that.
LARGEST_PROJECT = 900 << 10


@dataclass(frozen=True)
class Project:
    """A project as a ConfigMap, and as a volume of a pod whose files have the project's own paths."""

    config_map: dict[str, Any]
    volume: dict[str, Any]
    size: int


def project_of(spec: ApiSpec, spec_text: str, namespace: str | None) -> Project:
    """The files of the project, the spec among them in the text that is given. Raises UsageError where they are too
    large, or leave the predictor out.

    The ConfigMap's name changes with any file: what mounts it is then rolled as by any other change.
    """
    files = {path: (spec.project / path).read_bytes() for path in _paths(spec)}
    if spec.predictor.path not in files:
        raise UsageError(
            f"{spec.predictor.path} is left out of the project: {IGNORE_FILE} or its hidden name does that."
        )
    files[spec.file.name] = spec_text.encode()
    size = sum(len(data) for data in files.values())
    if size > LARGEST_PROJECT:
        largest = max(files, key=lambda path: len(files[path]))
        raise UsageError(
            f"The project {spec.project.name} has {size >> 10} KiB, and a ConfigMap holds {LARGEST_PROJECT >> 10} "
            f"(the largest file is {largest}): list in {IGNORE_FILE} what {spec.predictor.path} does not need."
        )
    keys = _keys(files)
    digest = hashlib.sha256()
    text, binary = {}, {}
    for path, key in keys.items():
        digest.update(f"{path} {len(files[path])} ".encode() + files[path])
        try:
            text[key] = files[path].decode()
        except UnicodeDecodeError:
            binary[key] = b64encode(files[path]).decode()
    name = f"{spec.name}-{digest.hexdigest()[:10]}"
    metadata = {"name": name, "labels": {"app.kubernetes.io/name": spec.name}}
    if namespace:
        metadata["namespace"] = namespace
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, "data": text}
    if binary:
        config_map["binaryData"] = binary
    items = [{"key": key, "path": path} for path, key in keys.items()]
    return Project(config_map, {"name": "project", "configMap": {"name": name, "items": items}}, size)


def _paths(spec: ApiSpec) -> list[str]:
    models = [spec.project / location for location in local_locations(spec)]
    return [path for path in map(Path.as_posix, project_files(spec.project, models)) if not _is_ours(path)]


def _is_ours(path: str) -> bool:
    """The code of visionserve, which the image has: a part of it on the import path would hide the rest."""
    return path.startswith("visionserve/") and path.endswith((".py", ".typed"))


def _keys(paths: dict[str, bytes]) -> dict[str, str]:
    """A key for each path: Kubernetes allows letters, digits, '-', '_' and '.' in one."""
    taken: set[str] = set()
    keys = {}
    for path in sorted(paths):
        key = next(candidate for candidate in _candidates(path) if candidate not in taken)
        taken.add(key)
        keys[path] = key
    return keys


def _candidates(path: str) -> Iterator[str]:
    key = re.sub(r"[^-._A-Za-z0-9]", "_", path.replace("/", "__"))[-200:]
    yield key
    for number in range(2, 1 << 20):
        yield f"{number}-{key}"
