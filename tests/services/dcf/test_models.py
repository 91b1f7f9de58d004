"""Any detector with the outputs of TensorFlow's model zoo, shown on stand-ins for the zoo's models."""

import io
import json
import logging

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.photos import encoded
from tests.services.dcf.handlers import box, call, load
from tests.services.dcf.zoo_stand_ins import write_stand_in

pytestmark = pytest.mark.slow

RED, BLUE = [30, 20, 130, 60], [200, 100, 280, 150]


def picture():
    """uint8 RGB [200, 300, 3] with two of the stand-ins' objects: a red person and a blue cup."""
    pixels = np.full((200, 300, 3), 127, np.uint8)
    for (left, top, right, bottom), color in ((RED, (255, 0, 0)), (BLUE, (0, 0, 255))):
        pixels[top:bottom, left:right] = color
    return pixels


def summary(objects):
    return [(one["class"], one["confidence"]) for one in objects]


def boxes(objects):
    return np.array([box(one) for one in objects])


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    return write_stand_in(tmp_path_factory.mktemp("zoo") / "1")


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shape": (1, 320, 320)},
        {"shape": (None, None, None), "input_name": "inputs"},
        {"extras": True},
        {"loop": True},
        {"all_count": True},
    ],
    ids=["open", "fixed", "as TensorFlow 1 exports it", "further outputs", "control flow", "all rows count"],
)
def test_a_model_of_the_zoo_s_form_finds_its_objects(tmp_path, engine, options):
    handler = load(model=write_stand_in(tmp_path / "1", **options), engine=engine)
    objects = call(handler, encoded(picture()))
    assert summary(objects) == [("person", "0.90"), ("cup", "0.70")]
    assert np.abs(boxes(objects) - [RED, BLUE]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_upright_whatever_orientation_is_stored(stand_in, orientation):
    stored = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    image = Image.fromarray(picture())
    for step in stored[orientation]:
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95, subsampling=0, exif=exif)
    objects = call(load(model=stand_in), file.getvalue())
    assert np.abs(boxes(objects) - [RED, BLUE]).max() <= 2


def test_a_larger_picture_than_the_model_is_fed_has_boxes_in_its_own_pixels(stand_in):
    large = cv2.resize(picture(), (4500, 3000), interpolation=cv2.INTER_NEAREST)
    handler = load(model=stand_in)
    for suffix in (".png", ".jpg"):
        assert np.abs(boxes(call(handler, encoded(large, suffix))) - 15 * np.array([RED, BLUE])).max() <= 15


def test_a_box_over_the_edge_is_clipped_and_one_of_a_pixel_keeps_it(stand_in):
    pixels = np.full((200, 300, 3), 127, np.uint8)
    pixels[10:60, 250:300] = (255, 0, 0)
    # The stand-in gives each object a second time, a little further right.
    handler = load(model=stand_in, max_overlap=1)
    assert boxes(call(handler, encoded(pixels))).tolist() == [[250, 10, 300, 60], [256, 10, 300, 60]]
    dot = np.full((1, 1, 3), (255, 0, 0), np.uint8)
    assert boxes(call(handler, encoded(dot))).tolist() == [[0, 0, 1, 1]] * 2


def test_thresholds_come_from_the_environment(stand_in):
    image = encoded(picture())
    assert summary(call(load(model=stand_in, min_confidence=0.75), image)) == [("person", "0.90")]
    assert summary(call(load(model=stand_in, max_objects=1), image)) == [("person", "0.90")]
    unsure = summary(call(load(model=stand_in, min_confidence=0.05), image))
    assert unsure == [("person", "0.90"), ("cup", "0.70"), ("bicycle", "0.10"), ("fork", "0.10")]
    overlapping = summary(call(load(model=stand_in, max_overlap=0.95), image))
    assert overlapping == [("person", "0.90"), ("cup", "0.70"), ("person", "0.55"), ("cup", "0.55")]


def test_a_picture_with_more_pixels_than_allowed_is_refused(stand_in):
    handler = load(model=stand_in, max_pixels=59_999)
    assert "300x200 pixels, more than max_pixels=59999" in call(handler, encoded(picture()))["error"]


def test_classes_are_numbers_on_request_and_named_by_a_file_of_one_s_own(stand_in, tmp_path):
    image = encoded(picture())
    assert summary(call(load(model=stand_in, class_names=0), image)) == [("1", "0.90"), ("47", "0.70")]
    label_map = tmp_path / "labels.pbtxt"
    label_map.write_text(
        'item {\n  name: "/m/1"\n  id: 1\n  display_name: "red {thing}"\n}\n'
        "item { id: 47 name: 'blue' }\nitem { name: 'x' }"
    )
    as_list = tmp_path / "list.json"
    as_list.write_text(json.dumps(["first", "second"]))
    as_object = tmp_path / "object.json"
    as_object.write_text(json.dumps({"1": "Mensch", "47": "Täßchen"}))
    expected = {label_map: ["red {thing}", "blue"], as_list: ["first", "47"], as_object: ["Mensch", "Täßchen"]}
    for file, names in expected.items():
        objects = call(load(model=stand_in, labels=file), image)
        assert [one["class"] for one in objects] == names


def test_what_openvino_cannot_run_is_run_by_tensorflow_and_said(tmp_path, caplog):
    model = write_stand_in(tmp_path / "1", openvino_lacks=True)
    with caplog.at_level(logging.WARNING):
        handler = load(model=model)
    assert "TensorFlow is tried instead" in caplog.text
    assert summary(call(handler, encoded(picture()))) == [("person", "0.90"), ("cup", "0.70")]
    with pytest.raises(SystemExit, match="Error: OpenVINO cannot load"):
        load(model=model, engine="openvino")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"without": "detection_boxes"},
            "it gives detection_classes, detection_scores, num_detections, but not detection_boxes",
        ),
        ({"dtype": "float32"}, r"takes input_tensor, float32 \[1, -1, -1, 3\], where a detector takes one uint8"),
    ],
)
def test_another_model_is_refused_in_a_sentence_that_says_what_it_is(tmp_path, options, said):
    model = write_stand_in(tmp_path / "1", **options)
    with pytest.raises(SystemExit, match=said):
        load(model=model)
