import json
import struct

import pytest

from predictor import TensorFlowPredictor
from tests.predictor_requests import FIVE, RecordingClient, b64, error_of, form_of, jpeg, multipart

SEND = 'send JSON with "img" (base64), "imgs" (a list of them) or "url", or an image as the body or as a multipart file'


@pytest.fixture(scope="module")
def cat():
    return jpeg("chelsea")


@pytest.fixture(params=[True, False], ids=["flat", "rows"])
def client(request):
    return RecordingClient(flat=request.param)


@pytest.fixture
def predictor(client):
    return TensorFlowPredictor(client, {})


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (None, "the payload is null: " + SEND),
        (3, "the payload is a number: " + SEND),
        (True, "the payload is true: " + SEND),
        ([], "the payload is a list: " + SEND),
        ("hello", "the payload is a string: " + SEND),
        (b"", "the body is empty: " + SEND),
        ("", "the body is empty: " + SEND),
        (b"hello", "the body is not an image: send JPEG, PNG, WebP, BMP or GIF"),
        (b'{"img": ', "the body is not valid JSON: Expecting value: line 1 column 9 (char 8)"),
        (b'{"img": ' + b"[" * 100000, "the body is not valid JSON: it is nested too deeply"),
        (b'{"url": "http://example.com/\\ud800"}', "url is not a URL"),
        ({}, 'the payload has no "img", "imgs" or "url": send one of them'),
        ({"image": "x"}, 'the payload has no "img", "imgs" or "url": send one of them'),
        ({"img": "x", "url": "x"}, "the payload has img and url: send one of them"),
        ({"img": None}, "img is null, not a base64 string"),
        ({"img": 3}, "img is a number, not a base64 string"),
        ({"img": {}}, "img is an object, not a base64 string"),
        ({"img": "not base64!"}, "img is not valid base64"),
        ({"img": "abc"}, "img is not valid base64"),
        ({"img": "\u00e9\ud800"}, "img is not valid base64"),
        ({"img": ""}, "img is not an image: send JPEG, PNG, WebP, BMP or GIF"),
        ({"img": b64(b"hello")}, "img is not an image: send JPEG, PNG, WebP, BMP or GIF"),
        ({"img": b64(jpeg()[:9000])}, "img is not a complete image: its JPEG data are cut off"),
        ({"imgs": []}, "imgs is an empty list: send at least one image"),
        ({"imgs": "x"}, "imgs is a string, not a list of base64 strings"),
        ({"imgs": None}, "imgs is null, not a list of base64 strings"),
        ({"imgs": [b64(jpeg())] * 65}, "imgs has 65 images, more than max_images=64"),
        ({"url": None}, "url is null, not an http:// or https:// URL"),
        ({"url": ""}, "url is an empty string, not an http:// or https:// URL"),
        ({"url": "cat.jpg"}, "url is not allowed: only http:// and https:// URLs are fetched"),
        ({"url": "file:///etc/passwd"}, "url is not allowed: only http:// and https:// URLs are fetched"),
        ({"url": "http://localhost/cat.jpg"}, "url is not allowed: localhost is not a public address"),
        ({"url": "http://no-such.invalid/"}, "url does not answer: there is no host no-such.invalid"),
    ],
)
def test_a_wrong_payload_is_400_with_a_sentence_and_the_next_request_works(predictor, client, cat, payload, sentence):
    assert error_of(predictor.predict(payload, {})) == sentence
    assert client.batches == []
    assert predictor.predict({"img": b64(cat)}, {}) == FIVE


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (b64(b"hello"), "imgs[3] is not an image: send JPEG, PNG, WebP, BMP or GIF"),
        ("?", "imgs[3] is not valid base64"),
        (7, "imgs[3] is a number, not a base64 string"),
    ],
)
def test_the_wrong_entry_of_several_is_named(predictor, client, cat, wrong, sentence):
    assert error_of(predictor.predict({"imgs": [b64(cat)] * 3 + [wrong, b64(cat)]}, {})) == sentence
    assert client.batches == []


def test_wrong_forms_are_refused(predictor, cat):
    plain = "application/x-www-form-urlencoded"
    assert error_of(predictor.predict(form_of(b"", plain), {})).startswith('the payload has no "img"')
    assert error_of(predictor.predict(multipart(("note", None, b"a cat")), {})).startswith('the payload has no "img"')
    assert error_of(predictor.predict(multipart(("image", "x.txt", b"hello")), {})).startswith("image is not an image")
    form = multipart(("image", "cat.jpg", cat), ("image", "x.txt", b"hello"))
    assert error_of(predictor.predict(form, {})).startswith("image[1] is not an image")
    form = multipart(*[("image", "cat.jpg", cat)] * 65)
    assert error_of(predictor.predict(form, {})) == "the form has 65 images, more than max_images=64"


def test_json_that_curl_sent_as_a_form_is_told_its_header(predictor, cat):
    form = form_of(json.dumps({"img": b64(cat)}).encode(), "application/x-www-form-urlencoded")
    sentence = 'the JSON came as a form: add the header "Content-Type: application/json"'
    assert error_of(predictor.predict(form, {})) == sentence


def test_max_images_and_max_pixels_are_the_last_that_are_taken(client, cat):
    predictor = TensorFlowPredictor(client, {"max_images": 2, "max_pixels": 451 * 300})
    assert predictor.predict({"imgs": [b64(cat)] * 2}, {}) == [FIVE] * 2
    assert error_of(predictor.predict({"imgs": [b64(cat)] * 3}, {})) == "imgs has 3 images, more than max_images=2"
    sentence = "img has 600x400 pixels, more than max_pixels=135300: send a smaller image"
    assert error_of(predictor.predict({"img": b64(jpeg("coffee"))}, {})) == sentence


def test_a_bomb_is_refused(predictor):
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 50000, 50000, 8, 2, 0, 0, 0)
    sentence = "img has 50000x50000 pixels, more than max_pixels=50000000: send a smaller image"
    assert error_of(predictor.predict({"img": b64(header)}, {})) == sentence
