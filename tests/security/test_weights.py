"""Model files from strangers. Altered downloads, traversal from buckets and code in archives: tests/models."""

import io
import os
import tarfile

import h5py
import numpy as np
import pytest

from visionserve.errors import WeightsError
from visionserve.models.weights import find_weights


@pytest.fixture
def elsewhere(tmp_path):
    """Another file of the machine: numbers, and a group as in a model."""
    path = tmp_path / "elsewhere.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("conv1_conv/kernel:0", data=np.zeros((7, 7, 3, 64), np.float32))
    return path


def link_a_group(file, elsewhere):
    file["conv1_conv"] = h5py.ExternalLink(elsewhere, "/conv1_conv")


def link_a_dataset(file, elsewhere):
    file.create_group("conv1_conv")["kernel:0"] = h5py.ExternalLink(elsewhere, "/conv1_conv/kernel:0")


def store_outside(file, elsewhere):
    size = 7 * 7 * 3 * 64 * 4
    file.create_dataset("conv1_conv/kernel:0", (7, 7, 3, 64), np.float32, external=[(elsewhere, 0, size)])


def map_virtually(file, elsewhere):
    layout = h5py.VirtualLayout((7, 7, 3, 64), np.float32)
    layout[...] = h5py.VirtualSource(str(elsewhere), "conv1_conv/kernel:0", (7, 7, 3, 64))
    file.create_virtual_dataset("conv1_conv/kernel:0", layout)


@pytest.mark.parametrize("trick", [link_a_group, link_a_dataset, store_outside, map_virtually])
def test_weights_that_would_be_read_from_another_file_are_refused(elsewhere, tmp_path, trick):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv1_conv"]
        trick(file, str(elsewhere))
        if trick is not link_a_group:
            file["conv1_conv"].attrs["weight_names"] = [b"kernel:0"]
    with pytest.raises(WeightsError, match=r"its /.*conv1_conv.* another file"):
        find_weights(path)


def test_groups_that_hold_each_other_end_in_a_sentence(tmp_path):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.create_group("a/b")
        file["a/b/up"] = file["a"]
    with pytest.raises(WeightsError, match="does not hold a Keras model's weights"):
        find_weights(path)


def tarball(path, **members):
    """`members`: name below package/ResNet50 -> a TarInfo's fields and its content."""
    with tarfile.open(path, "w:gz") as archive:
        for name, (fields, data) in members.items():
            info = tarfile.TarInfo(f"package/ResNet50/{name}")
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))
    return path


MODEL_JSON = b'{"modelTopology": {}, "weightsManifest": [{"paths": ["../../trap"], "weights": []}]}'


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"model.json": ({}, MODEL_JSON)}, r"its shard '../../trap' is not a file beside it"),
        ({"model.json": ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, b"")}, "does not hold ResNet50"),
        ({"model.json": ({"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, b"")}, "does not hold ResNet50"),
        ({"../../../trap": ({}, b"x")}, "does not hold ResNet50"),
    ],
)
def test_a_tarball_that_reaches_outside_is_refused_and_nothing_is_unpacked(tmp_path, members, sentence):
    path = tarball(tmp_path / "in" / "weights.tgz", **members) if (tmp_path / "in").mkdir() is None else None
    with pytest.raises(WeightsError, match=sentence):
        find_weights(path)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["weights.tgz"]


def test_a_tarball_with_a_file_that_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "bomb.tgz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        info = tarfile.TarInfo("package/ResNet50/model.json")
        info.size = (1 << 28) + 1
        with open("/dev/zero", "rb") as zeros:
            archive.addfile(info, zeros)
    assert path.stat().st_size < 2 << 20
    with pytest.raises(WeightsError, match="has more than 268435456 bytes"):
        find_weights(path)


def test_a_model_folder_with_links_to_nothing_is_a_sentence(machine, tmp_path):
    from tests.projects import write_project

    model = tmp_path / "model" / "1"
    model.mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"\x08\x01")
    os.symlink("/nowhere/at/all", model / "model.json")
    predictor = {"type": "tensorflow", "path": "predictor.py", "model_path": str(model.parent)}
    source = "class TensorFlowPredictor:\n    def __init__(self, tensorflow_client, config):\n        pass\n"
    spec = write_project(tmp_path / "project", source, predictor=predictor)
    done = machine.cortex("deploy", spec)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
