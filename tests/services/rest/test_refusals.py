import socket
from urllib.parse import urlsplit

import pytest
import requests

from tests.photos import encoded, photographs
from tests.services.rest.rest_services import error, rest_service

COFFEE = encoded(photographs()["coffee"])
BOUNDARY = {"Content-Type": "multipart/form-data; boundary=b"}
HUGE = COFFEE[:16] + (20_000).to_bytes(4, "big") * 2 + COFFEE[24:]
NOT_AN_IMAGE = "image is not an image: send JPEG, PNG, WebP, BMP or GIF."
NO_TYPE = "The body is without a type, not multipart/form-data: send the image as the file image of a form."


def file(content, field="image"):
    return {"files": [(field, ("photo.jpg", content))]}


@pytest.mark.parametrize(
    ("request_", "status", "sentence"),
    [
        ({}, 415, NO_TYPE),
        (
            {"data": COFFEE, "headers": {"Content-Type": "image/png"}},
            415,
            "The body is 'image/png', not multipart/form-data: send the image as the file image of a form.",
        ),
        (
            {"json": {"image": "x"}},
            415,
            "The body is 'application/json', not multipart/form-data: send the image as the file image of a form.",
        ),
        (
            {"data": {"image": "x"}},
            415,
            "The body is 'application/x-www-form-urlencoded', not multipart/form-data: "
            "send the image as the file image of a form.",
        ),
        (file(COFFEE, "picture"), 400, "The form has the field image not at all: send one image as a file."),
        (
            {"files": [("image", ("a", COFFEE)), ("image", ("b", COFFEE))]},
            400,
            "The form has the field image 2 times: send one image as a file.",
        ),
        (
            {"files": {"image": (None, "text")}},
            400,
            "image is a text, not a file: send it with a file name, as curl -F does for @.",
        ),
        (file(b""), 400, "image is an empty file."),
        (file(b"hello"), 415, NOT_AN_IMAGE),
        (file(b"%PDF-1.7 ..."), 415, "image is a PDF file: send JPEG, PNG, WebP, BMP or GIF."),
        (file(COFFEE[:12]), 415, "image is not a complete image: it ends inside its header."),
        (file(COFFEE[:9000]), 400, "image is not a complete image: its PNG data are cut off."),
        (file(HUGE), 400, "image has 20000x20000 pixels, more than max_pixels=50000000: send a smaller image."),
        (
            {"data": b"--b", "headers": {"Content-Type": "multipart/form-data"}},
            400,
            "The form cannot be read: Missing boundary in multipart.",
        ),
        ({"data": b"no boundary", "headers": BOUNDARY}, 400, None),
        ({"data": b"--b\r\nContent-Disposition: form-data", "headers": BOUNDARY}, 400, None),
        ({"data": b"", "headers": BOUNDARY}, 400, None),
    ],
)
def test_a_wrong_body_is_refused_with_one_sentence(service, request_, status, sentence):
    answer = error(requests.post(f"{service.url}/classify/resnet", timeout=60, **request_))
    assert answer == (status, sentence or answer[1])


def test_an_image_that_does_not_decode_is_a_wrong_request(service):
    broken = COFFEE[:100] + bytes(4000) + COFFEE[4100:]
    status, sentence = error(service.classify(broken))
    assert (status, "image_bytes[0] is a PNG file that" in sentence) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status", "sentence"),
    [
        ("POST", "/classify/vgg", 404, "There is no route 'vgg': ask one of resnet."),
        ("GET", "/nothing", 404, "There is nothing at /nothing: /docs shows what there is."),
        ("GET", "/static-offline-docs/nothing", 404, None),
        ("GET", "/classify/resnet", 405, "GET is not for /classify/resnet: use POST; /docs shows how."),
        ("DELETE", "/classify", 405, "DELETE is not for /classify: use GET; /docs shows how."),
        ("POST", "/healthz", 405, "POST is not for /healthz: use GET; /docs shows how."),
    ],
)
def test_a_wrong_path_or_method_is_refused_with_one_sentence(service, method, path, status, sentence):
    answer = requests.request(method, f"{service.url}{path}", timeout=60)
    assert error(answer) == (status, sentence or answer.json()["error"])
    assert ("allow" in answer.headers) == (status == 405)


def test_detail_is_true_or_false(service):
    assert error(service.classify(COFFEE, "?detail=maybe")) == (400, "detail is 'maybe': say true or false.")


def test_a_large_body_is_refused_before_it_is_sent_or_while_it_is(service, home):
    url = urlsplit(service.url)
    with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
        head = f"POST /classify/resnet HTTP/1.1\r\nHost: test\r\nContent-Type: {BOUNDARY['Content-Type']}\r\n"
        connection.sendall(f"{head}Content-Length: 5000000000\r\n\r\n".encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413 ")
    with rest_service(home, "--engine", "null", "--max-upload-bytes", 100_000) as small:
        parts = [b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n', *[bytes(10_000)] * 20]
        streamed = requests.post(f"{small.url}/classify/resnet", data=iter(parts), headers=BOUNDARY, timeout=60)
        assert error(streamed) == (413, "The body is larger than 100000 bytes: send a smaller image.")
        assert small.classify(COFFEE[:99_000]).status_code == 400


def test_a_client_that_leaves_is_no_error_of_the_service(service):
    url = urlsplit(service.url)
    with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
        head = f"POST /classify/resnet HTTP/1.1\r\nHost: test\r\nContent-Type: {BOUNDARY['Content-Type']}\r\n"
        connection.sendall(f"{head}Content-Length: 5000\r\n\r\n--b\r\n".encode())
    assert service.classify(COFFEE).json() == {"classes": 968}
    assert "Traceback" not in service.log.read_text()


def test_more_requests_than_max_in_flight_are_told_to_come_later(home):
    with rest_service(home, "--engine", "null", REST_MAX_IN_FLIGHT="1") as service:
        url = urlsplit(service.url)
        with socket.create_connection((url.hostname, url.port), timeout=60) as connection:
            head = f"POST /classify/resnet HTTP/1.1\r\nHost: test\r\nContent-Type: {BOUNDARY['Content-Type']}\r\n"
            connection.sendall(f"{head}Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n".encode())
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 100 ")
            answer = service.classify(COFFEE)
        assert error(answer) == (503, "More than 1 requests are in flight: try again later.")
        assert answer.headers["retry-after"] == "1"
