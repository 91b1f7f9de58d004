import base64
import json
import ssl
from collections import Counter
from pathlib import Path

import pytest
import trustme

from tests.bench.servers import LABELS, Exchange, serving


@pytest.fixture
def three_photos(tmp_path: Path, photo_bytes: bytes) -> Path:
    """A folder of three images that differ, in a subfolder too, and of something else."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, tail in (("a.jpg", b"a"), ("b.jpeg", b"b"), ("more/c.png", b"c")):
        # What follows the end of a JPEG is ignored by decoders.
        (folder / name).write_bytes(photo_bytes + tail)
    (folder / "readme.md").write_text("not an image")
    return folder


def test_a_folder_sends_all_of_its_images_in_turn(bench, three_photos):
    with serving() as (url, record):
        run = bench("-t", 3, "-s", 4, three_photos, url)
    assert run.code == 0, run.err
    sent = Counter(base64.b64decode(json.loads(body)["imgs"][0])[-1:] for body in record.bodies)
    assert sent == {b"a": 4, b"b": 4, b"c": 4}
    assert run.figures["settings"]["images"] == 3


@pytest.mark.slow
def test_batches_go_on_where_the_last_one_ended(bench, three_photos):
    with serving() as (url, record):
        bench("-s", 4, "-b", 2, three_photos, url)
    batches = [b"".join(base64.b64decode(image)[-1:] for image in json.loads(body)["imgs"]) for body in record.bodies]
    assert batches == [b"ab", b"ca", b"ab", b"ca"]


@pytest.mark.slow
def test_a_list_file_names_paths_beside_it(bench, three_photos):
    (three_photos / "some.txt").write_text("# two of them\na.jpg\n\nmore/c.png\n")
    with serving() as (url, record):
        run = bench("-s", 2, three_photos / "some.txt", url)
    assert run.code == 0, run.err
    assert [base64.b64decode(json.loads(body)["imgs"][0])[-1:] for body in record.bodies] == [b"a", b"c"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "words"),
    [("gone.jpg\n", "no such file"), ("# nothing\n", "without an image"), ("readme.md\n", "is no image")],
)
def test_a_list_with_something_wrong_is_refused(bench, three_photos, text, words):
    (three_photos / "some.txt").write_text(text)
    with serving() as (url, record):
        run = bench(three_photos / "some.txt", url)
    assert (run.code, record.bodies) == (2, [])
    assert words in run.err
    assert run.err.count("\n") == 1


def answering(body: object):
    def behave(exchange: Exchange) -> None:
        exchange.answer(body=json.dumps(body).encode())

    return behave


@pytest.mark.slow
def test_the_payload_is_one_image_as_json(bench, photo, photo_bytes):
    with serving(answering(LABELS)) as (url, record):
        run = bench("-s", 2, "--payload", "img", "--expect", "Egyptian_cat", photo, url)
    assert run.code == 0, run.out
    assert base64.b64decode(json.loads(record.bodies[0])["img"]) == photo_bytes


def test_the_payload_is_the_image_itself(bench, photo, photo_bytes):
    scored = [{"label": label, "probability": 0.2} for label in LABELS]
    with serving(answering(scored)) as (url, record):
        run = bench("-s", 2, "--payload", "raw", "--expect", "Egyptian_cat", photo, url)
    assert run.code == 0, run.out
    assert record.bodies[0] == photo_bytes
    assert record.headers[0]["Content-Type"] == "image/jpeg"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prediction", "label"), [({"classes": 286, "probabilities": [0.1]}, "286"), ([0.1, 0.2, 0.7], "2")]
)
def test_the_payload_is_what_tensorflow_serving_takes(bench, photo, photo_bytes, prediction, label):
    with serving(answering({"predictions": [prediction] * 2})) as (url, record):
        target = url + "v1/models/resnet50:predict"
        run = bench("-s", 2, "-b", 2, "--payload", "tfserving", "--expect", label, photo, target)
        wrong = bench("-s", 2, "-b", 2, "--payload", "tfserving", "--expect", "7", photo, target)
    assert run.code == 0, run.out
    message = json.loads(record.bodies[0])
    assert message["signature_name"] == "image_bytes"
    assert [base64.b64decode(instance["b64"]) for instance in message["instances"]] == [photo_bytes] * 2
    assert record.paths[0] == "/v1/models/resnet50:predict"
    assert wrong.figures["errors"] == {"wrong answer": 2}


@pytest.mark.slow
@pytest.mark.parametrize("payload", ["img", "raw"])
def test_a_payload_of_one_image_takes_no_batch(bench, photo, payload):
    with serving() as (url, record):
        run = bench("--payload", payload, "-b", 2, photo, url)
    assert (run.code, record.bodies) == (2, [])
    assert "one image" in run.err


def test_a_fast_wrong_server_is_seen_as_wrong(bench, photo):
    def behave(exchange: Exchange) -> None:
        labels = LABELS if exchange.number % 2 else ["toaster", *LABELS]
        exchange.answer(body=json.dumps([labels]).encode())

    with serving(behave) as (url, _):
        run = bench("-s", 10, "--expect", "Egyptian_cat", photo, url)
    assert run.code == 1
    assert run.figures["errors"] == {"wrong answer": 5}
    assert run.row("wrong answer") == "toaster instead of Egyptian_cat"


@pytest.mark.slow
def test_headers_go_with_every_request(bench, photo):
    with serving() as (url, record):
        run = bench("-s", 2, "-H", "X-Key: abc: d", "--header", "User-Agent: mine", photo, url)
    assert run.code == 0
    assert [(headers["X-Key"], headers["User-Agent"]) for headers in record.headers] == [("abc: d", "mine")] * 2


@pytest.mark.slow
@pytest.mark.parametrize("header", ["no colon", "Bad Name: x", "X-A: b\r\nX-C: d", "Content-Length: 3"])
def test_what_is_no_header_of_the_users_is_refused(bench, photo, header):
    with serving() as (url, record):
        run = bench("-H", header, photo, url)
    assert (run.code, record.bodies) == (2, [])
    assert "--header" in run.err
    assert run.err.count("\n") == 1


@pytest.mark.slow
def test_https_needs_a_certificate_that_is_trusted_or_insecure(bench, photo, tmp_path):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    with serving(tls=context) as (url, record):
        refused = bench("-s", 2, photo, url)
        insecure = bench("-s", 2, "--insecure", photo, url)
        trusted = bench("--rate", 20, "-i", 1, photo, url, SSL_CERT_FILE=str(tmp_path / "authority.pem"))
    assert refused.code == 2
    assert "certificate" in refused.err
    assert (insecure.code, trusted.code) == (0, 0), trusted.out + trusted.err
    assert len(record.bodies) == 2 + 20
