"""A predictor that sleeps, so that the load and the API do not fight for the same cores."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import DeployedApi, Machine, free_port, post, wait_for
from tests.faults.open_loop import Reply, send
from tests.faults.raw_client import connect, head
from tests.projects import write_project
from tests.steady_load import Load

SLEEP, FIRST_SLEEP = 0.3, 2.0
WORKERS, THREADS = 2, 4
CAPACITY = WORKERS * THREADS / SLEEP
SECONDS = 3
# From the issue: the p99 of what is answered over the unloaded one; then seconds until all is as before.
LATENCY, RECOVERY = 3, 10
SLEEPER = f"""
import time

class PythonPredictor:
    def __init__(self, config):
        self.seconds = {FIRST_SLEEP}

    def predict(self, payload):
        time.sleep(self.seconds)
        self.seconds = {SLEEP}
        return "done"
"""

pytestmark = [pytest.mark.slow, pytest.mark.alone]


@dataclass(frozen=True)
class Sleeper:
    api: DeployedApi
    endpoint: str
    first: list[Reply]


@pytest.fixture(scope="module")
def sleeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sleeper]:
    """`first`: the answers to its first requests, which came all at once."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    predictor = {"processes_per_replica": WORKERS, "threads_per_process": THREADS}
    spec = write_project(tmp_path_factory.mktemp("project"), SLEEPER, predictor=predictor)
    api = machine.deploy(spec, "--port", free_port())
    endpoint = api.endpoint
    yield Sleeper(api, endpoint, send(endpoint, b"{}", 40, 0))
    machine.clean()


def codes(replies: list[Reply]) -> set[int]:
    return {reply.status for reply in replies}


def test_a_cold_start_refuses_nothing(sleeper: Sleeper):
    assert codes(sleeper.first) == {200}


def test_ten_times_the_capacity_leaves_what_is_answered_quick_and_refuses_the_rest_at_once(sleeper: Sleeper):
    unloaded = _quantile(send(sleeper.endpoint, b"{}", 5, 1.5 * SLEEP), 0.99)
    replies = send(sleeper.endpoint, b"{}", int(10 * CAPACITY * SECONDS), 1 / (10 * CAPACITY))
    assert codes(replies) == {200, 503}
    answered = [reply for reply in replies if reply.status == 200]
    refused = [reply for reply in replies if reply.status == 503]
    assert _quantile(answered, 0.99) <= LATENCY * unloaded
    assert len(answered) >= CAPACITY * SECONDS / 2
    assert _quantile(refused, 0.9) < unloaded / 2
    assert all(reply.headers["retry-after"] == "1" and b"error" in reply.body for reply in refused)
    wait_for(lambda: sleeper.api.row()["in_flight"] == 0)
    wait_for(lambda: codes(send(sleeper.endpoint, b"{}", 2 * WORKERS * THREADS, 0)) == {200}, RECOVERY)


def test_as_many_clients_as_threads_get_no_503(sleeper: Sleeper):
    with Load(sleeper.endpoint, {}, WORKERS * THREADS) as load:
        wait_for(lambda: len(load.answers) >= 8 * WORKERS * THREADS)
    assert not load.failed


def test_a_refused_request_is_answered_before_its_body_comes(sleeper: Sleeper):
    with Load(sleeper.endpoint, {}, 10 * WORKERS * THREADS) as load:
        wait_for(lambda: load.failed)

        def answered_from_its_head() -> bool:
            with connect(sleeper.endpoint) as connection:
                connection.settimeout(SLEEP / 3)
                connection.sendall(head(1000))
                try:
                    return connection.recv(1 << 16).startswith(b"HTTP/1.1 503 ")
                except TimeoutError:
                    return False

        wait_for(answered_from_its_head)
    assert {answer.status for answer in load.failed} == {503}


def test_where_others_add_replicas_nothing_is_refused_below_max_replica_concurrency(machine: Machine, tmp_path: Path):
    machine.environment["VISIONSERVE_AUTOSCALED"] = "1"
    predictor = {"processes_per_replica": WORKERS, "threads_per_process": THREADS}
    spec = write_project(tmp_path / "project", SLEEPER, predictor=predictor)
    endpoint = machine.deploy(spec, "--port", free_port()).endpoint
    assert codes(send(endpoint, b"{}", 200, 1 / (10 * CAPACITY))) == {200}


def test_slow_senders_of_bodies_are_not_in_flight(sleeper: Sleeper):
    connections = [connect(sleeper.endpoint) for _ in range(40)]
    for connection in connections:
        connection.sendall(head(1000) + b"{")
    wait_for(lambda: post(sleeper.endpoint, json={}).status_code == 200, RECOVERY)
    assert sleeper.api.row()["in_flight"] == 0
    for connection in connections:
        connection.close()


def _quantile(replies: list[Reply], part: float) -> float:
    seconds = sorted(reply.seconds for reply in replies)
    return seconds[int(part * (len(seconds) - 1))]
