from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from visionserve.errors import ModelError, UsageError
from visionserve.inference.model_folder import find_version
from visionserve.models.builds.manifest import NAME as MANIFEST
from visionserve.models.builds.manifest import read_manifest
from visionserve.vision.labels import IMAGENET_CLASSES, load_classes

DEFAULT = {"resnet": {"path": "models/resnet50"}}


@dataclass(frozen=True)
class Route:
    """/classify/`name`. `model`: its name in the model server; `path`: its folder, None where only a TensorFlow
    Serving elsewhere has it; `labels`: the class names in the model's order, None where none are given."""

    name: str
    model: str
    path: Path | None
    labels: list[str] | None

    def labels_of(self, classes: int) -> list[str] | None:
        """The names of a model's `classes`, ImageNet's where none are given. Raises ModelError if they do not fit."""
        labels = self.labels
        if labels is None and classes == 1000:
            labels = load_classes(IMAGENET_CLASSES)
        if labels is not None and len(labels) != classes:
            raise ModelError(f"Route {self.name} has {len(labels)} labels, but model {self.model} gives {classes}.")
        return labels


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: Path | None = None
    model: Annotated[str, StringConstraints(pattern=r"^[^/:\s]+$")] | None = None
    labels: Path | None = None


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    models: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], _Entry] = Field(
        min_length=1
    )


def read_routes(file: Path | None) -> list[Route]:
    """The routes of a YAML file, {models: {ROUTE: {path: FOLDER, model: NAME, labels: FILE}}}; the default without one.

    `model` is the folder's name where it is left out; relative paths start from the current folder.
    Raises UsageError with the file, the field and what it may be.
    """
    document = _Document.model_validate({"models": DEFAULT}) if file is None else _read(file)
    routes = [_route(str(file), name, entry) for name, entry in document.models.items()]
    folders: dict[str, Path | None] = {}
    for route in routes:
        if folders.setdefault(route.model, route.path) != route.path:
            raise UsageError(
                f"{file}: models.{route.name}: another route has a model {route.model} in the folder "
                f"{folders[route.model]}: give one of them its own name with `model`."
            )
    return routes


def _read(file: Path) -> _Document:
    try:
        # _Loader is a SafeLoader.
        return _Document.model_validate(yaml.load(file.read_text(encoding="utf-8"), _Loader))  # nosec B506
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{file} is not YAML: {' '.join(str(error).split())}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise UsageError(f"{file}: {where or 'the file'}: {_explained(first)}.") from error


def _explained(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        known = _Entry.model_fields if len(error["loc"]) > 1 else _Document.model_fields
        return f"there is no such field: allowed are {', '.join(known)}"
    return f"{error['input']!r}: {error['msg']}" if error["type"] != "missing" else error["msg"]


class _Loader(yaml.SafeLoader):
    """A key that is written twice is an error: of two routes with one name, one would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (place, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is written twice", place.start_mark)
        return super().construct_mapping(node, deep)


def _route(file: str, name: str, entry: _Entry) -> Route:
    model = entry.model or (entry.path.resolve().name if entry.path else "")
    if not model:
        raise UsageError(f"{file}: models.{name} names no model: give it a path, or the model of a TensorFlow Serving.")
    try:
        return Route(name, model, entry.path, _labels(entry))
    except (ValueError, ModelError) as error:
        raise UsageError(f"{file}: models.{name}: {error}") from error


def _labels(entry: _Entry) -> list[str] | None:
    if entry.labels:
        return load_classes(str(entry.labels))
    if entry.path and entry.path.is_dir():
        _, folder = find_version(entry.path)
        if (folder / MANIFEST).is_file():
            return read_manifest(folder).classes
    return None
