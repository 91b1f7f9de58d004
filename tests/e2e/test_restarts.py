import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import psutil
import pytest
import requests

from tests.conftest import REPOSITORY, Machine, free_port, post, wait_for
from tests.projects import ECHO, repository_spec, with_patience, write_project

pytestmark = pytest.mark.slow

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())


def healthy(endpoint: str) -> bool:
    try:
        return requests.get(f"{endpoint}/healthz", timeout=60).status_code == 200
    except requests.ConnectionError:
        return False


def test_a_killed_worker_is_started_again(machine: Machine, tmp_path):
    api = machine.deploy(write_project(tmp_path / "project", ECHO), "--port", free_port())
    endpoint, killed = api.endpoint, api.row()["processes"]["worker 0"]
    psutil.Process(killed).kill()
    wait_for(lambda: api.row()["processes"].get("worker 0") not in (None, killed))
    assert post(endpoint, json={"a": 1}).json()["payload"] == {"a": 1}
    assert api.row()["restarts"] == 1
    assert "ended with code -9" in api.log()


def test_requests_in_flight_on_a_killed_model_server_wait_for_the_next_and_are_answered(
    machine: Machine, model, tmp_path
):
    spec = with_patience(repository_spec(tmp_path / "project", REPOSITORY, model))
    api = machine.deploy(spec, "--port", free_port(), "--engine", "openvino")
    endpoint, killed = api.endpoint, api.row()["processes"]["model server"]
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(post, endpoint, json=SAMPLE) for _ in range(48)]
        # At once, while the next ones are in flight.
        next(islice(as_completed(answers), 7, None))
        psutil.Process(killed).kill()
    assert {answer.result().status_code for answer in answers} == {200}
    assert {answer.result().json()[0] for answer in answers} == {"Egyptian_cat"}
    wait_for(lambda: api.row()["processes"].get("model server") not in (None, killed))
    wait_for(lambda: healthy(endpoint))
