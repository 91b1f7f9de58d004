import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import pytest
import requests

from tests.conftest import Machine, free_port, post, wait_for
from tests.faults.open_loop import send
from tests.faults.raw_client import connect, head
from tests.projects import write_project

OFTEN = 150
MEMORY_MIB = 8
PREDICTOR = """
import time

class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        time.sleep(payload.get("seconds", 0))
        return payload["answer"]
"""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Api:
    endpoint: str
    worker: psutil.Process

    def is_idle(self) -> bool:
        # The connections last: that of the question is one of them until the worker has closed it.
        return self.in_flight() == 0 and all(
            connection.status == psutil.CONN_LISTEN for connection in self.worker.net_connections("tcp")
        )

    def in_flight(self) -> float:
        metrics = requests.get(f"{self.endpoint}/metrics", headers={"connection": "close"}, timeout=60).text
        counts = re.findall(r"^visionserve_requests_in_flight (\S+)$", metrics, re.MULTILINE)
        return sum(map(float, counts))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    limits = {"max_replica_concurrency": 4}
    spec = write_project(
        tmp_path_factory.mktemp("project"), PREDICTOR, predictor={"threads_per_process": 2}, autoscaling=limits
    )
    row = machine.deploy(spec, "--port", free_port()).row()
    yield Api(row["endpoint"], psutil.Process(row["processes"]["worker 0"]))
    machine.clean()


def wrong_json(endpoint: str, often: int) -> None:
    with requests.Session() as session:
        headers = {"content-type": "application/json"}
        assert {session.post(endpoint, data=b"{" * 1000, headers=headers).status_code for _ in range(often)} == {400}


def a_predictor_that_raises(endpoint: str, often: int) -> None:
    with requests.Session() as session:
        assert {session.post(endpoint, json={"a": "x" * 1000}).status_code for _ in range(often)} == {500}


def a_full_queue(endpoint: str, often: int) -> None:
    replies = send(endpoint, b'{"seconds": 0.5, "answer": 1}', often, 0.001)
    assert {reply.status for reply in replies} == {200, 503}


def clients_that_leave_in_their_body(endpoint: str, often: int) -> None:
    for _ in range(often):
        with connect(endpoint) as connection:
            connection.sendall(head(1000) + b"{")


def clients_that_leave_in_the_queue(endpoint: str, often: int) -> None:
    body = b'{"seconds": 0.01, "answer": 1}'
    for _ in range(often):
        with connect(endpoint) as connection:
            connection.sendall(head(len(body)) + body)


@pytest.mark.parametrize(
    "fail",
    [
        wrong_json,
        a_predictor_that_raises,
        a_full_queue,
        clients_that_leave_in_their_body,
        clients_that_leave_in_the_queue,
    ],
)
def test_nothing_is_left_of_requests_that_fail(api: Api, fail: Callable[[str, int], None]):
    fail(api.endpoint, OFTEN)
    wait_for(api.is_idle)
    files, memory = api.worker.num_fds(), api.worker.memory_info().rss
    fail(api.endpoint, OFTEN)
    wait_for(api.is_idle)
    assert api.worker.num_fds() <= files
    assert api.worker.memory_info().rss - memory <= MEMORY_MIB << 20
    assert post(api.endpoint, json={"answer": 1}).json() == 1
