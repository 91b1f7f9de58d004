"""The checks in verification/, as a second user runs them."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY, free_port
from tests.services.rest.rest_services import environment, rest_service


def verified(*options, **variables):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "verification", "-q", "-p", "no:cacheprovider", *options],
        cwd=REPOSITORY,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_right_service_passes(service):
    done = verified(VISIONSERVE_ENDPOINT=service.url)
    assert (done.returncode, "failed" in done.stdout) == (0, False), done.stdout


def test_a_service_that_answers_wrongly_fails(home):
    with rest_service(home, "--engine", "null") as constant:
        done = verified("--endpoint", constant.url)
    assert done.returncode == 1
    assert "FAILED verification/test_classifier.py::test_a_picture_is_answered_with_its_class" in done.stdout


@pytest.mark.slow
def test_a_service_that_does_not_run_is_told_in_one_sentence():
    url = f"http://127.0.0.1:{free_port()}"
    done = verified("--endpoint", url)
    assert done.returncode == 1
    assert f"No classifier answers at {url}: start one with `visionserve rest`, or say --endpoint URL." in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_it_needs_pytest_and_requests_only():
    sources = [path.read_text() for path in (REPOSITORY / "verification").glob("*.py")]
    imported = {
        line.split()[1] for source in sources for line in source.splitlines() if line.startswith(("import", "from"))
    }
    assert imported <= {"pytest", "requests", "json", "os", "pathlib", "concurrent.futures"}
