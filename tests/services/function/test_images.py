import pytest
import requests

from tests.conftest import REPOSITORY
from visionserve.errors import NotFoundError
from visionserve.services.function.images import read_named_image

CAT = {"top_prediction": [["Egyptian cat"]]}
DEFAULT = {"top_prediction": [["tripod"]]}


@pytest.mark.parametrize("name", ["test1", "test1.jpg"])
def test_an_image_is_named_by_its_file(function, name):
    answer = function.get("/", params={"imageName": name})
    assert (answer.status_code, answer.json()) == (200, CAT)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("query", ["", "?imageName=", "?imageName=nobody", "?other=test1"])
def test_any_other_name_is_the_default_image(function, query):
    assert function.get(f"/{query}").json() == DEFAULT


@pytest.mark.parametrize(
    "name", ["../../../sample.json", "../data/test1", "/etc/passwd", "README", "README.md", "a\0b"]
)
def test_a_name_leads_to_nothing_but_the_folder_s_images(function, name):
    assert function.get("/", params={"imageName": name}).json() == DEFAULT


def test_the_long_name_is_one_of_imagenet_s_synonyms(function):
    assert function.get("/?imageName=test2").json() == {"top_prediction": [["espresso"]]}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/elsewhere", 404), ("DELETE", "/", 405), ("POST", "/openapi.json", 405)]
)
def test_what_is_not_there_is_one_sentence(function, method, path, status):
    answer = requests.request(method, function.url + path, timeout=60)
    assert answer.status_code == status
    assert path in answer.json()["error"]


def test_events_are_refused_without_s3(function):
    answer = function.post({"Records": []})
    assert answer.status_code == 403
    assert "S3_ENABLED=true" in answer.json()["error"]


def test_without_a_default_a_name_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "photo.JPEG").write_bytes((REPOSITORY / "deploy/knative/data/test1.jpg").read_bytes())
    assert read_named_image(tmp_path, "photo").startswith(b"\xff\xd8")
    with pytest.raises(NotFoundError, match="no image 'other' and none called default"):
        read_named_image(tmp_path, "other")
