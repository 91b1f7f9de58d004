import base64
import json
import os
import shutil
import tarfile

import numpy as np
import pytest
from click.testing import CliRunner

from tests.conftest import REPOSITORY
from tests.models.detectors import export, visionserve
from tests.models.file_server import serving
from tests.photos import encoded
from visionserve.cli import main
from visionserve.errors import WeightsError
from visionserve.models.builds.cpu.compatibility import check_loadable_by_old_tensorflow
from visionserve.models.builds.detector import check, saved_model
from visionserve.models.builds.detector.export import is_exported
from visionserve.models.builds.detector.network import SIDE
from visionserve.models.builds.detector.weights import find_detector
from visionserve.models.builds.graph import nodes_of, read_saved_model
from visionserve.models.builds.manifest import read_manifest
from visionserve.models.checksum import Checksum
from visionserve.models.sources import HostedFile

# TensorFlow is loaded.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """A folder with the real centernet.json and centernet.bin."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(find_detector().path) as archive:
        for name in ("centernet.json", "centernet.bin"):
            (folder / name).write_bytes(archive.extractfile(f"package/models/{name}").read())
    return folder


@pytest.fixture
def centernet(unpacked, tmp_path):
    """A copy of it that a test may change."""
    return shutil.copytree(unpacked, tmp_path / "centernet") / "centernet.json"


def changed(path, change):
    model = json.loads(path.read_text())
    change(model)
    path.write_text(json.dumps(model))
    return path


def test_it_holds_nothing_that_tensorflow_1_15_and_2_3_do_not_know_and_nothing_fused(exported_detector):
    check_loadable_by_old_tensorflow(exported_detector[0])
    operations = {node.op for node in nodes_of(read_saved_model(exported_detector[0]))}
    assert {"Conv2D", "DepthwiseConv2dNative", "BiasAdd", "Relu"} <= operations
    assert not [name for name in operations if "Fused" in name]


def test_model_json_records_what_the_detector_was_made_of(exported_detector):
    manifest = read_manifest(exported_detector[0])
    weights = find_detector()
    assert weights.path.name == "vladmandic-human-3.3.6.tgz"
    assert manifest.weights.model_dump() == {
        "source": "npm package @vladmandic/human@3.3.6",
        "sha256": weights.sha256,
        "epsilon": None,
        "parameters": weights.parameters,
    }
    assert (manifest.classes[17], manifest.classes[12]) == ("cat", "")
    assert manifest.describes(exported_detector[0])


def test_the_same_detector_is_not_exported_again_and_a_damaged_one_is_not_taken_for_it(exported_detector, tmp_path):
    copied = shutil.copytree(exported_detector[0], tmp_path / "detector" / "1")
    before = copied.stat()
    done = export("--output", copied)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "holds this model already" in done.stdout
    assert (copied.stat().st_ino, copied.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    os.truncate(copied / "saved_model.pb", 4_000_000)
    assert not is_exported(find_detector(), copied)


def test_it_is_not_taken_for_a_build_of_the_classifier(exported_detector):
    done = CliRunner().invoke(main, ["export", "openvino", "--model", str(exported_detector[0])])
    assert done.exit_code == 1
    assert "is a build of centernet-mobilenetv3: name a CPU build of resnet50 with --model" in done.stderr


def assert_refused(done, *reasons, code=1):
    assert (done.exit_code, done.stderr.count("\n")) == (code, 1), done.stderr
    assert done.stderr.startswith("Error: ")
    for reason in reasons:
        assert reason in done.stderr


def test_a_detector_that_stretches_its_pictures_is_discarded(tmp_path, monkeypatch):
    def stretched(picture):
        import tensorflow

        return tensorflow.image.resize(picture, [SIDE, SIDE]), tensorflow.zeros([2]), tensorflow.fill([2], float(SIDE))

    monkeypatch.setattr(saved_model, "_letterbox", stretched)
    assert_refused(export("--output", tmp_path / "detector" / "1"), "only the export finds a dog", "discarded")
    assert list((tmp_path / "detector").iterdir()) == []


def test_a_sample_in_which_nothing_is_found_proves_nothing(tmp_path):
    sample = tmp_path / "gray.json"
    gray = encoded(np.full([300, 400, 3], 128, np.uint8))
    sample.write_text(json.dumps({"img": base64.b64encode(gray).decode()}))
    done = export("--output", tmp_path / "detector" / "1", "--sample", sample)
    assert_refused(done, f"finds nothing in the sample that it is {check.SURE} sure of")


def rename_output(model):
    model["modelTopology"]["node"][-1]["name"] = "boxes"


def of_four_classes(model):
    for node in model["modelTopology"]["node"]:
        if node["name"] == "tower_0/keypoints":
            node["input"] = ["tower_0/mul"]


def fused_with_elu(model):
    node = next(node for node in model["modelTopology"]["node"] if node["op"] == "_FusedConv2D")
    node["attr"]["fused_ops"]["list"]["s"] = [base64.b64encode(name).decode() for name in (b"BiasAdd", b"Elu")]


def quantized_to_bytes(model):
    model["weightsManifest"][0]["weights"][-1]["quantization"]["dtype"] = "uint8"


def without_a_weight(model):
    weights = model["weightsManifest"][0]["weights"]
    weights[-2]["name"] = "none/such"


def without_an_operation(model):
    nodes = model["modelTopology"]["node"]
    nodes.remove(next(node for node in nodes if node["name"] == "tower_0/CenternetHead/concat"))


def of_another_operation(model):
    next(node for node in model["modelTopology"]["node"] if node["op"] == "TopKV2")["op"] = "TopK9"


def with_a_node_that_is_none(model):
    model["modelTopology"]["node"][5] = {"name": "tower_0/Relu", "operation": "Relu"}


def outside_its_folder(model):
    model["weightsManifest"][0]["paths"] = ["../centernet.bin"]


def of_layers(model):
    model["format"] = "layers-model"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (rename_output, "another network than the detector: it has no tower_0/detections"),
        (of_four_classes, "its tower_0/keypoints is [1, 128, 128, 4], not [1, 128, 128, 80]"),
        (fused_with_elu, "is a convolution fused with BiasAdd, Elu, which is not read"),
        (quantized_to_bytes, "is quantized to uint8, and only float16 is read"),
        (without_a_weight, "is not among its weights"),
        (without_an_operation, "it has no operation tower_0/CenternetHead/concat"),
        (of_another_operation, "its graph does not work in TensorFlow: Op type not registered 'TopK9'"),
        (with_a_node_that_is_none, "its modelTopology is not a TensorFlow graph"),
        (outside_its_folder, "'../centernet.bin' is not a file beside it"),
        (of_layers, "it is a TensorFlow.js layers-model, and the detector is a graph-model"),
    ],
)
def test_another_network_than_the_detector_is_refused(centernet, tmp_path, change, reason):
    done = export("--weights", changed(centernet, change), "--output", tmp_path / "detector" / "1")
    assert_refused(done, f"{centernet}: ", reason)
    assert not (tmp_path / "detector" / "1").exists()


def test_a_cut_off_or_damaged_file_is_refused(centernet, tmp_path):
    shard = centernet.with_suffix(".bin")
    data = shard.read_bytes()
    shard.write_bytes(data[:-2])
    assert_refused(export("--weights", centernet), "one is cut off or altered")
    shard.write_bytes(np.full(len(data) // 2, np.nan, "<f2").tobytes())
    assert_refused(export("--weights", centernet, "--output", tmp_path / "1"), "a number that is not finite")


def test_a_package_without_the_detector_is_refused(tmp_path):
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as archive:
        archive.add(REPOSITORY / "sample.json", "package/models/centernet.bin")
    assert_refused(export("--weights", tmp_path / "other.tgz"), "other.tgz does not hold models")
    assert_refused(
        export("--weights", REPOSITORY / "README.md"), "README.md: the detector is a TensorFlow.js centernet.json"
    )


def test_an_altered_package_in_the_cache_is_fetched_again(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    data = find_detector().path.read_bytes()
    altered = bytearray(data)
    altered[len(data) // 2] ^= 1
    (tmp_path / "detector.tgz").write_bytes(altered)
    with serving({"/detector.tgz": data}) as server:
        source = HostedFile("host", f"{server.url}/detector.tgz", Checksum("sha256", find_detector().sha256))
        assert find_detector(cache=tmp_path, source=source).parameters == find_detector().parameters
        server.files["/detector.tgz"] = bytes(altered)
        with pytest.raises(WeightsError, match=r"from host: .* not the pinned one.*; name a file with --weights"):
            find_detector(cache=tmp_path / "empty", source=source)


def test_a_machine_without_npm_is_told_so_in_one_sentence(tmp_path):
    done = visionserve(
        "export", "detector", "--output", tmp_path / "1", PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path)
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "npm is not installed" in done.stderr
    assert "--weights" in done.stderr
