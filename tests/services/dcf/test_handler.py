"""The handler of deploy/dcf with the project's own detector, on photographs."""

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.photos import encoded, photographs
from tests.services.dcf.handlers import box, call, iou, load, request

# Drawn by hand around the objects, on the pictures alone: xmin, ymin, xmax, ymax.
CUP_OF_COFFEE = [173, 18, 409, 307]
ASTRONAUT = [19, 16, 363, 512]
FIELDS = ["class", "confidence", "xmin", "ymin", "xmax", "ymax"]


@pytest.fixture(scope="module")
def handler(detector):
    return load(model=detector)


def found(objects, label):
    [only] = [one for one in objects if one["class"] == label]
    return only


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
@pytest.mark.parametrize(
    ("name", "label", "drawn"), [("coffee", "cup", CUP_OF_COFFEE), ("astronaut", "person", ASTRONAUT)]
)
def test_it_finds_the_object_where_a_person_drew_it(handler, name, label, drawn, suffix):
    objects = call(handler, encoded(photographs()[name], suffix))
    assert iou(box(found(objects, label)), drawn) >= 0.7


def test_each_object_is_strings_with_a_box_of_its_own_within_the_picture(handler):
    photo = photographs()["coffee"]
    objects = call(handler, encoded(photo))
    assert len(objects) >= 2
    assert len({tuple(box(one)) for one in objects}) == len(objects)
    assert [float(one["confidence"]) for one in objects] == sorted(
        (float(one["confidence"]) for one in objects), reverse=True
    )
    for one in objects:
        assert list(one) == FIELDS
        assert all(isinstance(value, str) for value in one.values())
        assert len(one["confidence"].partition(".")[2]) == 2
        xmin, ymin, xmax, ymax = box(one)
        assert 0 <= xmin < xmax <= photo.shape[1]
        assert 0 <= ymin < ymax <= photo.shape[0]


def test_a_photo_of_12_megapixels_has_its_boxes_in_its_own_pixels(handler):
    photo = cv2.resize(photographs()["coffee"], (4000, 3000), interpolation=cv2.INTER_CUBIC)
    cup = found(call(handler, encoded(photo, ".jpg")), "cup")
    scale = np.array([4000 / 600, 3000 / 400] * 2)
    assert iou(box(cup), (CUP_OF_COFFEE * scale).tolist()) >= 0.7


def test_a_photo_that_a_phone_stored_sideways_has_upright_boxes(handler):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = Image.fromarray(photographs()["coffee"]).transpose(Image.Transpose.ROTATE_90)
    sideways.save(file, "JPEG", quality=95, exif=exif)
    assert iou(box(found(call(handler, file.getvalue()), "cup")), CUP_OF_COFFEE) >= 0.7


def test_transparency_and_gray_pictures_are_read_too(handler):
    photo = photographs()["astronaut"]
    with_alpha = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    for pixels in (with_alpha, gray):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        assert iou(box(found(call(handler, file.getvalue()), "person")), ASTRONAUT) >= 0.7


def test_a_picture_of_one_pixel_is_answered(handler):
    assert isinstance(call(handler, encoded(np.full((1, 1, 3), 200, np.uint8))), list)


def test_base64_comes_as_text_or_bytes_with_line_breaks_and_as_a_data_url(handler):
    photo = encoded(photographs()["coffee"], ".jpg")
    text = base64.b64encode(photo).decode()
    broken = base64.encodebytes(photo)
    expected = handler.Handler(request(text))
    assert "cup" in expected
    forms = [
        text.encode(),
        broken,
        broken.decode(),
        broken.replace(b"\n", b"\r\n"),
        f"data:image/jpeg;base64,{text}",
        photo,
    ]
    for form in forms:
        assert handler.Handler(request(form)) == expected


def test_later_watchers_make_an_object_of_it_first(handler):
    photo = base64.b64encode(encoded(photographs()["coffee"], ".jpg"))
    assert handler.Handler()(request(photo)) == handler.Handler(request(photo))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "The input is empty"),
        ("\n", "The input is empty"),
        ("not base64!", "The input is not valid base64"),
        ("é", "The input is not valid base64"),
        (base64.b64encode(b"some text"), "The input is not an image"),
        (base64.b64encode(b"%PDF-1.7"), "The input is a PDF file"),
    ],
)
def test_a_wrong_input_is_answered_with_one_sentence(handler, data, said):
    answer = json.loads(handler.Handler(request(data)))
    assert list(answer) == ["error"]
    assert said in answer["error"]


def test_a_photo_that_is_cut_off_is_refused(handler):
    photo = encoded(photographs()["coffee"], ".jpg")
    assert "not a complete image" in call(handler, photo[: len(photo) // 2])["error"]


def test_threads_get_the_answers_to_their_own_photos(handler):
    photos = [encoded(photographs()[name], ".jpg") for name in ("coffee", "astronaut", "chelsea", "motorcycle")]
    alone = [call(handler, photo) for photo in photos]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda photo: call(handler, photo), photos * 4))
    assert together == alone * 4
