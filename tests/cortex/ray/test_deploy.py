import base64
import json
from typing import Any

import pytest
import requests

from tests.conftest import REPOSITORY, DeployedApi
from tests.cortex.ray.ray_api import RayApi
from tests.photos import encoded, photographs

CAT = base64.b64decode(json.loads((REPOSITORY / "sample.json").read_text())["img"])
PHOTOS = [encoded(photographs()[name]) for name in ("astronaut", "coffee", "rocket")]


def b64(image: bytes) -> str:
    return base64.b64encode(image).decode()


REQUESTS: dict[str, dict[str, Any]] = {
    "one image": {"json": {"img": b64(CAT)}},
    "several images": {"json": {"imgs": [b64(image) for image in PHOTOS]}},
    "an image as the body": {"data": CAT, "headers": {"content-type": "image/jpeg"}},
    "an image in a form": {"files": {"image": ("cat.jpg", CAT)}},
    "no image": {"json": {"img": b64(b"no image")}},
    "one of several is no image": {"json": {"imgs": [b64(CAT), "%"]}},
    "a private URL": {"json": {"url": "http://127.0.0.1/cat.jpg"}},
    "an empty list": {"json": {"imgs": []}},
    "no field": {"json": {"picture": 1}},
    "broken JSON": {"data": b'{"img"', "headers": {"content-type": "application/json"}},
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_an_answer_is_that_of_the_local_runtime(ray_api: RayApi, classifier: DeployedApi, kind):
    local = requests.post(classifier.endpoint, timeout=60, **REQUESTS[kind])
    there = requests.post(ray_api.url, timeout=60, **REQUESTS[kind])
    assert (there.status_code, there.headers["content-type"]) == (local.status_code, local.headers["content-type"])
    assert there.text == local.text


def test_probabilities_are_those_of_the_local_runtime(ray_api: RayApi, classifier: DeployedApi):
    local, there = (
        requests.post(url, json={"img": b64(CAT)}, params={"scores": "true"}, timeout=60).json()
        for url in (classifier.endpoint, ray_api.url)
    )
    assert [entry["label"] for entry in there] == [entry["label"] for entry in local]
    chances = [[entry["probability"] for entry in answer] for answer in (there, local)]
    assert chances[0] == pytest.approx(chances[1], abs=1e-4)
