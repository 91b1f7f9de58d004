import base64
import json
import socket

import cv2
import numpy as np
import psutil
import pytest
import requests

from tests.conftest import REPOSITORY, DeployedApi, post, wait_for
from tests.photos import encoded, photographs
from visionserve.vision.labels import IMAGENET_CLASSES, load_classes
from visionserve.vision.pixels import to_input

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())


def base64_of(name: str) -> str:
    return base64.b64encode(encoded(photographs()[name])).decode()


@pytest.fixture(scope="module")
def keras_top5(model) -> dict[str, list[str]]:
    """Keras itself, run directly on the same pixels."""
    from visionserve.models.resnet50 import build_resnet50, classify_with_keras
    from visionserve.models.weights import find_weights

    network = build_resnet50(find_weights())
    classes = load_classes(IMAGENET_CLASSES)
    answers = {}
    for name, photo in photographs().items():
        probabilities = classify_with_keras(network, to_input(encoded(photo))[None])[0]
        answers[name] = [classes[index] for index in np.argsort(-probabilities)[:5]]
    return answers


def test_sample_json_is_answered_with_five_labels_of_the_cat(classifier: DeployedApi):
    answer = post(classifier.endpoint, json=SAMPLE)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.json()) == 5
    assert answer.json()[0] == "Egyptian_cat"
    assert {"Egyptian_cat", "tabby", "tiger_cat"} <= set(answer.json())


def test_curl_without_a_content_type_header_is_understood(classifier: DeployedApi):
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = post(classifier.endpoint, data=(REPOSITORY / "sample.json").read_bytes(), headers=headers)
    assert answer.json()[0] == "Egyptian_cat"


@pytest.mark.parametrize("name", sorted(photographs()))
def test_the_labels_equal_those_of_keras_on_the_same_pixels(classifier: DeployedApi, keras_top5, name):
    assert post(classifier.endpoint, json={"img": base64_of(name)}).json() == keras_top5[name]


def test_several_images_are_answered_in_order(classifier: DeployedApi, keras_top5):
    names = ["coffee", "chelsea", "astronaut"]
    answer = post(classifier.endpoint, json={"imgs": [base64_of(name) for name in names]})
    assert answer.json() == [keras_top5[name] for name in names]


def test_an_image_may_be_the_body_or_a_file_of_a_form(classifier: DeployedApi):
    image = base64.b64decode(SAMPLE["img"])
    expected = post(classifier.endpoint, json=SAMPLE).json()
    assert post(classifier.endpoint, data=image, headers={"content-type": "image/jpeg"}).json() == expected
    assert post(classifier.endpoint, data=image).json() == expected
    assert post(classifier.endpoint, files={"image": ("cat.jpg", image)}).json() == expected


def test_scores_add_the_probabilities(classifier: DeployedApi):
    answer = post(classifier.endpoint, json=SAMPLE, params={"scores": "true"}).json()
    assert [entry["label"] for entry in answer] == post(classifier.endpoint, json=SAMPLE).json()
    probabilities = [entry["probability"] for entry in answer]
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities[0] == pytest.approx(0.75, abs=0.03)


def test_a_turned_photograph_is_turned_back_by_its_exif_mark(classifier: DeployedApi):
    import io

    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    turned = io.BytesIO()
    Image.fromarray(np.rot90(photographs()["coffee"])).save(turned, "JPEG", quality=95, exif=exif)
    straight = post(classifier.endpoint, json={"img": base64_of("coffee")}).json()
    assert post(classifier.endpoint, data=turned.getvalue()).json()[0] == straight[0]


WRONG = [
    ({"data": b"{"}, "is not JSON"),
    ({"json": {}}, 'has no "img", "imgs" or "url"'),
    ({"json": [1, 2]}, "the payload is a list"),
    ({"json": {"img": "***"}}, "img is not"),
    ({"json": {"img": base64.b64encode(b"no image").decode()}}, "img is not an image"),
    ({"json": {"imgs": []}}, "imgs is an empty list"),
    ({"json": {"imgs": [SAMPLE["img"], SAMPLE["img"], SAMPLE["img"], "aGVsbG8="]}}, "imgs[3] is not an image"),
    ({"json": {"imgs": [SAMPLE["img"]] * 65}}, "max_images"),
    ({"json": {"url": "http://127.0.0.1:1/cat.jpg"}}, "127.0.0.1"),
    ({"json": {"url": "file:///etc/passwd"}}, "http"),
    ({"data": b"no image", "headers": {"content-type": "image/png"}}, "is not an image"),
]


@pytest.mark.parametrize(("request_", "sentence"), WRONG)
def test_a_wrong_payload_gets_400_and_the_next_good_request_works(classifier: DeployedApi, request_, sentence):
    if isinstance(request_.get("data"), bytes) and "headers" not in request_:
        request_ = {**request_, "headers": {"content-type": "application/json"}}
    answer = post(classifier.endpoint, **request_)
    assert answer.status_code == 400, answer.text
    assert sentence in answer.json()["error"]
    assert post(classifier.endpoint, json=SAMPLE).json()[0] == "Egyptian_cat"


def test_an_image_over_max_pixels_is_refused_from_its_header(classifier: DeployedApi):
    header = cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
    bomb = header[:16] + (50000).to_bytes(4, "big") * 2 + header[24:]
    answer = post(classifier.endpoint, data=bomb)
    assert answer.status_code == 400
    assert "max_pixels" in answer.json()["error"]


def test_get_tells_the_signature_to_programs_and_shows_a_page_to_people(classifier: DeployedApi):
    summary = requests.get(classifier.endpoint, timeout=60).json()
    (signature,) = summary["model_signatures"].values()
    assert signature["input_signatures"] == {"input": {"shape": [-1, 224, 224, 3], "type": "uint8"}}
    assert "message" in summary
    page = requests.get(classifier.endpoint, headers={"accept": "text/html,*/*"}, timeout=60)
    assert page.headers["content-type"].startswith("text/html")
    assert classifier.name in page.text


def test_the_api_is_also_served_at_its_cortex_endpoint(classifier: DeployedApi):
    assert post(f"{classifier.endpoint}/{classifier.name}", json=SAMPLE).json()[0] == "Egyptian_cat"


def test_a_client_that_leaves_in_the_middle_of_its_body_disturbs_nobody(classifier: DeployedApi):
    host, port = classifier.endpoint.removeprefix("http://").split(":")
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head + b'{"img":')
    assert post(classifier.endpoint, json=SAMPLE).json()[0] == "Egyptian_cat"
    assert "the predictor failed" not in classifier.log()


def test_unknown_paths_and_methods_are_named(classifier: DeployedApi):
    missing = requests.get(f"{classifier.endpoint}/nothing", timeout=60)
    assert (missing.status_code, missing.json()) == (404, {"error": "Not Found"})
    assert requests.put(classifier.endpoint, timeout=60).status_code == 405


def test_health_and_metrics(classifier: DeployedApi):
    assert requests.get(f"{classifier.endpoint}/healthz", timeout=60).status_code == 200

    def count(code: str) -> float:
        text = requests.get(f"{classifier.endpoint}/metrics", timeout=60).text
        lines = [line for line in text.splitlines() if line.startswith(f'visionserve_requests_total{{code="{code}"}}')]
        return float(lines[0].split()[-1]) if lines else 0.0

    good, bad = count("200"), count("400")
    post(classifier.endpoint, json=SAMPLE)
    post(classifier.endpoint, json={})
    # One worker counts after its answer is there, while another may tell the figures already.
    wait_for(lambda: (count("200"), count("400")) == (good + 1, bad + 1))


def test_cortex_get_counts_requests_by_status_class(classifier: DeployedApi):
    before = classifier.row()
    post(classifier.endpoint, json=SAMPLE)
    post(classifier.endpoint, json={})
    counted = {**before["requests"], "2xx": before["requests"]["2xx"] + 1, "4xx": before["requests"]["4xx"] + 1}
    wait_for(lambda: classifier.row()["requests"] == counted)
    after = classifier.row()
    assert after["status"] == "live"
    assert after["latency_ms"] > 0
    table = classifier.machine.cortex("get", classifier.name).stdout
    assert f"curl {classifier.endpoint}" in table
    assert "1/1" in table


def test_cortex_predict_posts_json_and_image_files(classifier: DeployedApi, tmp_path):
    photo = tmp_path / "cat.jpg"
    photo.write_bytes(base64.b64decode(SAMPLE["img"]))
    for file in ("sample.json", photo):
        done = classifier.machine.cortex("predict", classifier.name, file)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[0] == "Egyptian_cat"
    scores = classifier.machine.cortex("predict", classifier.name, photo, "--scores")
    assert json.loads(scores.stdout)[0]["label"] == "Egyptian_cat"
    photo.write_bytes(b"no image")
    refused = classifier.machine.cortex("predict", classifier.name, photo)
    assert refused.returncode == 1
    assert "is not an image" in refused.stderr


def test_an_idle_deployment_is_small(classifier: DeployedApi):
    post(classifier.endpoint, json=SAMPLE)
    supervisor = psutil.Process(classifier.row()["processes"]["worker 0"]).parent()
    everything = [supervisor, *supervisor.children(recursive=True)]
    resident = {process.pid: process.memory_info().rss / 2**20 for process in everything}
    assert sum(resident.values()) <= 900, resident
    assert resident[classifier.row()["processes"]["worker 0"]] <= 120, resident
