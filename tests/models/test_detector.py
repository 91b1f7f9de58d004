import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from visionserve.inference.openvino_engine import OpenVinoEngine
from visionserve.models.builds.detector.coco import coco_classes

# TensorFlow is loaded.
pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="module")
def engine(exported_detector):
    engine = OpenVinoEngine(exported_detector[0], threads=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def find(engine):
    """uint8 RGB [H, W, 3] -> the engine's boxes, scores and classes, each [100, ...]."""

    def find(photo):
        outputs = engine.infer({"input_tensor": photo[np.newaxis]})
        return [outputs[f"detection_{name}"][0] for name in ("boxes", "scores", "classes")]

    return find


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


def test_the_command_says_what_it_finds_in_the_sample(exported_detector):
    folder, done = exported_detector
    assert done.stderr == ""
    *_, wrote, sample, cat = done.stdout.splitlines()
    assert wrote == f"wrote {folder}, 8 MB"
    assert "sample.json" in sample
    assert cat.split()[1] == "cat,"


@pytest.mark.parametrize("name", PHOTOS)
def test_openvino_finds_in_it_what_tensorflow_js_finds(find, name):
    assert_found(name, PHOTOS[name], find(PHOTOS[name]), score=3e-3, pixels=0.5)


def test_tensorflow_gives_tensorflow_js_s_numbers(exported_detector, tmp_path):
    for name, photo in PHOTOS.items():
        np.save(tmp_path / f"{name}.npy", photo[np.newaxis])
    done = subprocess.run(
        [sys.executable, "-c", EXACT, exported_detector[0], *(tmp_path / f"{name}.npy" for name in PHOTOS)],
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
