import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from visionserve.errors import MissingError, WeightsError, install_command
from visionserve.models.network import StoredNetwork

# ResNet50's archive has 103 MB; what claims to be far larger is not unpacked into memory.
LARGEST_MEMBER_BYTES = 1 << 30


@contextmanager
def hdf5_network(path: Path) -> Iterator[StoredNetwork]:
    """A Keras .h5 or .weights.h5: its variables stay in the file and are read while the block runs."""
    with path.open("rb") as file:
        yield from _network(file, config=None)


@contextmanager
def keras_archive_network(path: Path) -> Iterator[StoredNetwork]:
    """A Keras 3 .keras archive, read as data: no layer of it is built, so none of its code can run."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(_member(archive, "config.json"))
            weights = _member(archive, "model.weights.h5")
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise WeightsError(f"it is not a whole .keras archive: {error}") from error
    yield from _network(io.BytesIO(weights), config)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > LARGEST_MEMBER_BYTES:
        raise ValueError(f"{name} has more than {LARGEST_MEMBER_BYTES} bytes")
    return archive.read(name)


def _network(file: IO[bytes], config: dict[str, Any] | None) -> Iterator[StoredNetwork]:
    try:
        import h5py
    except ImportError as error:
        raise MissingError(f"reading .h5 and .keras needs h5py: run {install_command('export')}") from error
    try:
        opened = h5py.File(file, "r")
    except OSError as error:
        raise WeightsError("its HDF5 data is cut off or damaged") from error
    with opened:
        try:
            _refuse_other_files(opened)
            if "layers" in opened:
                layers = _keras3_layers(opened["layers"])
            else:
                layers = _legacy_layers(opened.get("model_weights", opened))
            if config is None and "model_config" in opened.attrs:
                config = json.loads(opened.attrs["model_config"])
        except (KeyError, RuntimeError, AttributeError, ValueError) as error:
            raise WeightsError(f"it does not hold a Keras model's weights: {error}") from error
        yield StoredNetwork(layers, config)


def _refuse_other_files(opened: Any) -> None:
    """HDF5 can take a group or the numbers of a dataset from any other file of the machine; weights have no need to."""
    import h5py

    seen: set[int] = set()
    groups = [opened]
    while groups:
        group = groups.pop()
        for name in group:
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                raise WeightsError(f"its {group.name}/{name} is a link to another file, which weights must not have")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise WeightsError(f"its {item.name} lies in another file, which weights must not")
            if isinstance(item, h5py.Group) and address not in seen:
                seen.add(address)
                groups.append(item)


def _keras3_layers(group: Any) -> dict[str, list[Any]]:
    """Keras 3: layers/<class>_<n>/vars/0, 1, ..., the layer's own name being an attribute of `vars`."""
    layers = {}
    for name, layer in group.items():
        variables = layer["vars"]
        if len(variables) and "name" not in variables.attrs:
            raise WeightsError(f"layers/{name} has no name: save the model again with Keras 3.6 or newer, or as .h5")
        layers[str(variables.attrs.get("name", name))] = [variables[str(n)] for n in range(len(variables))]
    return layers


def _legacy_layers(group: Any) -> dict[str, list[Any]]:
    """Keras 1 and 2: attributes `layer_names`, and in each layer `weight_names`, in the order of the variables."""
    layers = {}
    for name in map(_text, group.attrs["layer_names"]):
        layers[name] = [group[name][_text(weight)] for weight in group[name].attrs["weight_names"]]
    return layers


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
