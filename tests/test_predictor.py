import base64
import http.server
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from predictor import TensorFlowPredictor
from tests.predictor_requests import CHANCES, FIVE, ROOT, RecordingClient, b64, error_of, jpeg, multipart


@pytest.fixture(scope="module")
def cat():
    return jpeg("chelsea")


@pytest.fixture(params=[True, False], ids=["flat", "rows"])
def client(request):
    return RecordingClient(flat=request.param)


@pytest.fixture
def predictor(client):
    return TensorFlowPredictor(client, {})


@pytest.fixture
def site(tmp_path):
    """A real web server over a folder: its `.folder` and `.url`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = tmp_path / self.path[1:]
            found = path.is_file()
            self.send_response(200 if found else 404)
            self.end_headers()
            if found:
                self.wfile.write(path.read_bytes())

        def log_message(self, *_):
            return

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    server.folder, server.url = tmp_path, f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_image_gives_five_labels_most_likely_first(predictor, client, cat):
    assert predictor.predict({"img": b64(cat)}, {}) == FIVE
    (batch,) = client.batches
    assert (client.key, batch.shape, batch.dtype) == ("input", (1, 224, 224, 3), np.uint8)


def test_the_sample_that_comes_with_the_project_is_a_payload(predictor):
    with open(os.path.join(ROOT, "sample.json")) as file:
        assert predictor.predict(json.load(file), {}) == FIVE


def test_several_images_give_lists_in_order_from_one_call(predictor, client, cat):
    photos = [cat, jpeg("coffee"), jpeg("astronaut")]
    assert predictor.predict({"imgs": [b64(photo) for photo in photos]}, {}) == [FIVE] * 3
    (batch,) = client.batches
    for index, photo in enumerate(photos):
        predictor.predict(photo, {})
        assert (client.batches[-1][0] == batch[index]).all()


def test_a_list_of_one_image_gives_a_list_of_one(predictor, cat):
    assert predictor.predict({"imgs": [b64(cat)]}, {}) == [FIVE]


def test_every_way_to_send_an_image_gives_the_same_pixels(client, cat, site):
    (site.folder / "cat.jpg").write_bytes(cat)
    predictor = TensorFlowPredictor(client, {"allow_urls": [site.url]})
    lines = base64.encodebytes(cat).decode()
    ways = [
        {"img": b64(cat)},
        {"img": "data:image/jpeg;base64," + b64(cat)},
        {"img": lines},
        {"img": "data:image/jpeg;name=cat.jpg;base64,\n" + lines},
        {"url": site.url + "cat.jpg"},
        cat,
        bytearray(cat),
        json.dumps({"img": b64(cat)}).encode(),
        json.dumps({"img": b64(cat)}),
        multipart(("image", "cat.jpg", cat)),
        multipart(("note", None, b"a cat"), ("anything", "cat", cat)),
        multipart(("img", None, b64(cat).encode())),
    ]
    for way in ways:
        assert predictor.predict(way, {}) == FIVE
    assert len(client.batches) == len(ways)
    for batch in client.batches:
        assert (batch == client.batches[0]).all()


def test_several_files_give_a_list_of_lists(predictor, client, cat):
    form = multipart(("image", "cat.jpg", cat), ("image", "coffee.jpg", jpeg("coffee")))
    assert predictor.predict(form, {}) == [FIVE, FIVE]
    assert [batch.shape[0] for batch in client.batches] == [2]


def test_scores_come_with_the_labels_when_asked_for(predictor, cat):
    answer = predictor.predict({"img": b64(cat)}, {"scores": "true"})
    assert [entry["label"] for entry in answer] == FIVE
    assert [entry["probability"] for entry in answer] == pytest.approx(sorted(CHANCES.values(), reverse=True))
    assert json.dumps(answer)
    assert predictor.predict({"imgs": [b64(cat)]}, {"scores": "true"}) == [answer]
    assert predictor.predict({"img": b64(cat)}, {"scores": "false"}) == FIVE
    assert predictor.predict({"img": b64(cat)}, None) == FIVE


def test_a_url_that_gives_no_image_is_refused(client, site):
    (site.folder / "page.html").write_bytes(b"<html>")
    predictor = TensorFlowPredictor(client, {"allow_urls": [site.url]})
    assert error_of(predictor.predict({"url": site.url + "missing.jpg"}, {})) == "url answers 404 Not Found"
    assert error_of(predictor.predict({"url": site.url + "page.html"}, {})).startswith("url is not an image: ")
    predictor = TensorFlowPredictor(client, {"allow_urls": False})
    assert error_of(predictor.predict({"url": site.url}, {})).startswith("url is not allowed: URLs are turned off")


def test_the_model_may_have_other_keys_shapes_and_classes(site, cat):
    class ThreeClasses:
        def predict(self, inputs):
            self.shape = inputs["pixels"].shape
            return {"scores": [0.2, 0.5, 0.3] * len(inputs["pixels"])}

    (site.folder / "classes.json").write_text('{"0": ["n1", "ant"], "1": ["n2", "bee"], "2": ["n3", "cat"]}')
    client = ThreeClasses()
    config = {
        "classes": site.url + "classes.json",
        "input_key": "pixels",
        "output_key": "scores",
        "input_shape": [160, 192],
    }
    assert TensorFlowPredictor(client, config).predict(cat, {}) == ["bee", "cat", "ant"]
    assert client.shape == (1, 160, 192, 3)


def test_classes_are_a_file_beside_predictor_py(tmp_path, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(os.path.join(ROOT, "predictor.py"), str(project))
    (project / "animals.json").write_text('["ant", "bee"]')
    script = """
        from predictor import TensorFlowPredictor
        print(TensorFlowPredictor(None, {"classes": "animals.json"}).classes)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(project), ROOT])),
        cwd=str(tmp_path),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout.decode().strip() == "['ant', 'bee']"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ([], "config: must be a mapping, not []"),
        (
            {"max_image": 3},
            "config.max_image: no such setting; there are classes, input_shape, input_key, output_key, ",
        ),
        ({"max_images": 0}, "config.max_images: must be an integer of at least 1, not 0"),
        ({"max_images": True}, "config.max_images: must be an integer of at least 1, not True"),
        ({"max_pixels": "1M"}, "config.max_pixels: must be an integer of at least 1, not '1M'"),
        ({"timeout": -1}, "config.timeout: must be a number of seconds above 0, at most 3600, not -1"),
        ({"input_shape": [224]}, "config.input_shape: must be [height, width] in pixels, not [224]"),
        ({"input_shape": [224, 224, 3]}, "config.input_shape: must be [height, width] in pixels, not [224, 224, 3]"),
        ({"input_key": ""}, "config.input_key: must be a string, not ''"),
        ({"classes": 3}, "config.classes: must be a string, not 3"),
        ({"allow_urls": "http://x/"}, "config.allow_urls: must be false or a list of URL prefixes such as "),
        ({"allow_urls": ["x"]}, "config.allow_urls: must be false or a list of URL prefixes such as "),
        ({"classes": "missing.json"}, "classes: "),
    ],
)
def test_a_wrong_config_is_refused_when_the_api_starts(client, config, sentence):
    with pytest.raises(ValueError, match=r"^c") as caught:
        TensorFlowPredictor(client, config)
    assert str(caught.value).startswith(sentence)


def test_a_model_that_does_not_fit_the_classes_is_said(cat):
    predictor = TensorFlowPredictor(RecordingClient(classes=1001), {})
    with pytest.raises(ValueError, match=r"^the model gives 1001 numbers an image where 1000 classes are named"):
        predictor.predict(cat, {})
    predictor = TensorFlowPredictor(RecordingClient(), {"output_key": "probabilities"})
    with pytest.raises(ValueError, match=r"^the model gives no 'probabilities' but output: set config.output_key"):
        predictor.predict(cat, {})


def test_threads_share_one_predictor(predictor, client, cat):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.extend(predictor.predict({"img": b64(cat)}, {}) for _ in range(10)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [FIVE] * 40
    assert all((batch == client.batches[0]).all() for batch in client.batches)


def test_importing_the_predictor_stays_light():
    script = "import sys, predictor; print(sorted({'requests', 'urllib3', 'tensorflow', 'ssl'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode().strip() in ("[]", "['ssl']")
