import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest
import requests

from tests.conftest import REPOSITORY, wait_for
from tests.photos import encoded, photographs
from tests.services.rest.rest_services import rest_service

PHOTOS = photographs()
CAT = base64.b64decode(json.loads((REPOSITORY / "sample.json").read_text())["img"])
COFFEE = encoded(PHOTOS["coffee"])


def test_the_sample_cat_is_class_286_and_nothing_more_is_said(service):
    answer = service.classify(CAT)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"classes": 286}


def test_detail_adds_the_label_its_probability_and_the_five_likeliest(service):
    answer = service.classify(CAT, "?detail=true").json()
    assert list(answer) == ["classes", "label", "probability", "top5"]
    assert (answer["classes"], answer["label"]) == (286, "Egyptian_cat")
    assert answer["probability"] == pytest.approx(0.75, abs=0.05)
    assert [candidate["label"] for candidate in answer["top5"]][:3] == ["Egyptian_cat", "tiger_cat", "tabby"]
    assert [candidate["class"] for candidate in answer["top5"]][:3] == [286, 283, 282]
    assert service.classify(CAT, "?detail=false").json() == {"classes": 286}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_the_embedded_server_reads_the_usual_formats(service, suffix):
    assert service.classify(encoded(PHOTOS["coffee"], suffix)).json() == {"classes": 968}


def test_a_picture_of_many_megabytes_is_answered(service):
    large = encoded(cv2.resize(PHOTOS["chelsea"], (3600, 2400)))
    assert len(large) > 5 << 20
    assert service.classify(large).json() == {"classes": 286}


def test_pictures_asked_at_once_are_not_mixed_up(service):
    pictures = [CAT, COFFEE] * 8
    with ThreadPoolExecutor(8) as callers:
        answers = callers.map(lambda picture: service.classify(picture).json()["classes"], pictures)
        assert list(answers) == [286, 968] * 8


def test_the_models_are_listed_and_healthy(service):
    resnet = {"route": "resnet", "path": "/classify/resnet", "model": "resnet50", "labels": 1000, "status": "available"}
    # The model server has a second to say that it has the model.
    wait_for(lambda: service.get("/classify").json() == {"models": [resnet]})
    wait_for(lambda: service.get("/healthz").json() == {"status": "ready"})


def test_the_swagger_page_needs_no_other_host(service):
    page = service.get("/docs").text
    assert "SwaggerUIBundle" in page
    assert "//" not in page.replace("// ", "")
    files = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(files) == 3
    assert {service.get(file).status_code for file in files} == {200}


def test_several_routes_come_from_a_file_and_share_a_model(home, tmp_path):
    names = [f"name {number}" for number in range(1000)]
    (tmp_path / "names.json").write_text(json.dumps(names))
    (tmp_path / "few.json").write_text('["cat", "dog"]')
    (tmp_path / "models.yaml").write_text(
        f"""
        models:
          resnet: {{path: models/resnet50}}
          renamed: {{path: models/resnet50, labels: {tmp_path}/names.json}}
          few: {{path: {home}/models/resnet50, model: second, labels: {tmp_path}/few.json}}
        """
    )
    with rest_service(home, "--config", tmp_path / "models.yaml") as service:
        labels = [service.classify(CAT, "?detail=1", route).json()["label"] for route in ("resnet", "renamed")]
        assert labels == ["Egyptian_cat", "name 285"]
        models = {row["route"]: (row["model"], row["labels"]) for row in service.get("/classify").json()["models"]}
        assert models == {"resnet": ("resnet50", 1000), "renamed": ("resnet50", 1000), "few": ("second", 2)}
        assert service.log.read_text().count("serving resnet50, second with ") == 1
        assert service.classify(CAT, route="few").json() == {"classes": 286}
        answer = service.classify(CAT, "?detail=1", "few")
        assert (answer.status_code, answer.json()) == (
            500,
            {"error": "Route few has 2 labels, but model second gives 1000."},
        )


def test_a_kept_connection_answers_many_pictures(service):
    with requests.Session() as session:
        url = f"{service.url}/classify/resnet"
        answers = [session.post(url, files={"image": picture}, timeout=60).json() for picture in (CAT, COFFEE, CAT)]
    assert [answer["classes"] for answer in answers] == [286, 968, 286]
