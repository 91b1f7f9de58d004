from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, Machine, free_port, post
from tests.photos import encoded, photographs
from tests.projects import repository_spec
from tests.vision import web


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A web server on this machine, of which the API may fetch what is under /images/."""
    running, stop = web.serve()
    running.image = encoded(photographs()["chelsea"], ".jpg")
    running.url = f"http://127.0.0.1:{running.server_port}"
    yield running
    stop()


@pytest.fixture(scope="module")
def endpoint(model: Path, server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with deployed(tmp_path_factory.mktemp("urls"), model, server, timeout=60) as endpoint:
        yield endpoint


@contextmanager
def deployed(folder: Path, model: Path, server: Any, timeout: int) -> Iterator[str]:
    machine = Machine(folder / "home")
    config = {
        "classes": "classes.json",
        "timeout": timeout,
        "allow_urls": [server.url + "/images/", server.url + "/redirect/"],
    }
    spec = repository_spec(folder / "project", REPOSITORY, model, predictor={"config": config})
    try:
        yield machine.deploy(spec, "--engine", "null", "--port", free_port()).endpoint
    finally:
        machine.clean()


def test_an_allowed_url_gives_labels(endpoint: str, server: Any) -> None:
    for path in ("/images/cat.jpg", f"/redirect/{server.url}/images/cat.jpg"):
        answer = post(endpoint, json={"url": server.url + path})
        assert (answer.status_code, len(answer.json())) == (200, 5)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("{server}/secret", "is not allowed: 127.0.0.1 is not a public address"),
        ("{server}/images/../secret", "is not allowed: 127.0.0.1 is not a public address"),
        ("{server}/redirect/{server}/secret", "is not allowed: 127.0.0.1 is not a public address"),
        ("{server}/redirect/http://169.254.169.254/", "is not allowed: 169.254.169.254 is not a public address"),
        ("{server}/redirect/file:///etc/passwd", "is not allowed: only http:// and https:// URLs are fetched"),
        ("http://169.254.169.254/latest/meta-data/", "is not allowed: 169.254.169.254 is not a public address"),
        ("http://[fd00:ec2::254]/latest/", "is not allowed: fd00:ec2::254 is not a public address"),
        ("http://2130706433/", "is not allowed: 2130706433 is not a public address"),
        ("http://localhost/", "is not allowed: localhost is not a public address"),
        ("file:///etc/passwd", "is not allowed: only http:// and https:// URLs are fetched"),
        ("{server}/images/endless", "holds more than 20 MB: send a smaller image"),
    ],
)
def test_what_is_not_allowed_is_refused_and_not_asked_for(endpoint: str, server: Any, url: str, sentence: str) -> None:
    answer = post(endpoint, json={"url": url.format(server=server.url)})
    assert (answer.status_code, answer.json()) == (400, {"error": "url " + sentence})
    assert not any("secret" in path and "redirect" not in path for path, _ in server.seen)


def test_what_comes_too_slowly_is_refused(model: Path, server: Any, tmp_path: Path) -> None:
    with deployed(tmp_path, model, server, timeout=2) as endpoint:
        answer = post(endpoint, json={"url": server.url + "/images/dripping"})
        assert (answer.status_code, answer.json()) == (400, {"error": "url does not answer within 2 s"})
