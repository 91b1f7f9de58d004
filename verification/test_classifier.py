"""What a user of a running classifier may rely on. Needs pytest and requests only."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

FOLDER = Path(__file__).resolve().parent
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
TIMEOUT = 60


def post(url, name):
    with open(FOLDER / "images" / name, "rb") as image:
        return requests.post(url, files={"image": image}, timeout=TIMEOUT)


def test_the_service_is_healthy(endpoint):
    answer = requests.get(f"{endpoint}/healthz", timeout=TIMEOUT)
    assert answer.status_code == 200, answer.text


def test_the_model_is_listed_as_available(endpoint, pytestconfig):
    models = requests.get(f"{endpoint}/classify", timeout=TIMEOUT).json()["models"]
    statuses = {model["route"]: model["status"] for model in models}
    assert statuses.get(pytestconfig.getoption("--route")) == "available", statuses


@pytest.mark.parametrize("name", EXPECTED)
def test_a_picture_is_answered_with_its_class_and_no_more(classify, name):
    answer = post(classify, name)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"classes": EXPECTED[name]["classes"]}


@pytest.mark.parametrize("name", EXPECTED)
def test_detail_names_the_class_and_the_five_likeliest(classify, name):
    answer = post(f"{classify}?detail=true", name).json()
    assert (answer["classes"], answer["label"]) == (EXPECTED[name]["classes"], EXPECTED[name]["label"])
    top = answer["top5"]
    assert top[0] == {"class": answer["classes"], "label": answer["label"], "probability": answer["probability"]}
    probabilities = [candidate["probability"] for candidate in top]
    assert len(top) == 5
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) <= 1.0001


def test_pictures_asked_at_once_are_not_mixed_up(classify):
    names = list(EXPECTED) * 4
    with ThreadPoolExecutor(4) as callers:
        answers = callers.map(lambda name: post(classify, name).json()["classes"], names)
        assert list(answers) == [EXPECTED[name]["classes"] for name in names]


@pytest.mark.parametrize(
    ("files", "status"),
    [({"image": b"not a picture"}, 415), ({"image": b""}, 400), ({"picture": b"x"}, 400), (None, 415)],
)
def test_a_wrong_request_is_refused_with_one_sentence(classify, files, status):
    answer = requests.post(classify, files=files, timeout=TIMEOUT)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


def test_the_documentation_is_there(endpoint):
    assert "swagger" in requests.get(f"{endpoint}/docs", timeout=TIMEOUT).text.lower()
    assert requests.get(f"{endpoint}/openapi.json", timeout=TIMEOUT).json()["paths"]["/classify/{route}"]["post"]
