import time
from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest
import requests

from tests.conftest import Machine, free_port, post, wait_for
from tests.projects import write_project
from tests.steady_load import Load

pytestmark = pytest.mark.slow

PROCESS_ID = """
import os, time

class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self):
        time.sleep(0.02)
        return str(os.getpid())
"""

WITH_A_PROCESS_OF_ITS_OWN = """
import subprocess

class PythonPredictor:
    def __init__(self, config):
        self.other = subprocess.Popen(["sleep", "1000"])

    def predict(self):
        return self.other.pid
"""

FORKED = """
import os, time

class PythonPredictor:
    def __init__(self, config):
        self.pid = None

    def predict(self):
        pid = os.fork()
        if pid == 0:
            os.closerange(0, 3)
            time.sleep(1000)
        return pid
"""

SULKING = """
import os

class PythonPredictor:
    def __init__(self, config):
        if os.path.exists("sulk"):
            raise RuntimeError("not in the mood")

    def predict(self):
        return "here"
"""


def in_flight_during(answer, moments: tuple[float, float]) -> bool:
    begin, end = moments
    return answer.sent <= end and begin <= answer.ended


def has_ended(process: psutil.Process) -> bool:
    """A zombie has, too."""
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def test_workers_killed_ten_times_and_one_that_stands_still_take_only_their_requests_in_flight_with_them(
    machine: Machine, tmp_path
):
    spec = write_project(tmp_path / "project", PROCESS_ID, predictor={"processes_per_replica": 3})
    api = machine.deploy(spec, "--port", free_port())
    endpoint, workers = api.endpoint, api.row()["processes"]
    still = psutil.Process(workers["worker 2"])
    # Moments before and after: what a worker has taken by then is lost.
    losses: list[tuple[float, float]] = []

    def lose(stop: Callable[[], None]) -> None:
        begin = time.monotonic()
        stop()
        losses.append((begin, time.monotonic()))

    # A connection for each request: new workers get their share.
    with Load(endpoint, {}, 6, {"connection": "close"}) as load:

        def answering() -> set[str]:
            return {answer.body for answer in list(load.answers) if answer.status == 200}

        wait_for(lambda: {str(pid) for pid in workers.values()} <= answering())
        lose(still.suspend)
        for number in range(10):
            known = answering()
            living = [pid for pid in psutil.pids() if str(pid) in known and pid != still.pid]
            lose(psutil.Process(living[number % len(living)]).kill)
            # Due in 2 s.
            wait_for(lambda known=known: answering() - known)
        still.wait(120)
        wait_for(lambda: len([pid for pid in psutil.pids() if str(pid) in answering()]) == 3)
    assert load.failed
    assert {answer.status for answer in load.failed} == {None}
    stray = [answer for answer in load.failed if not any(in_flight_during(answer, loss) for loss in losses)]
    assert not stray
    row = api.row()
    assert (row["restarts"], row["in_flight"], row["status"]) == (11, 0, "live")
    assert "visionserve_requests_in_flight 0.0" in requests.get(f"{endpoint}/metrics", timeout=60).text
    assert f"worker 2 (process {still.pid}) hangs: its event loop has stood still" in api.log()


def test_a_killed_worker_comes_back_although_a_process_of_its_predictor_holds_its_output(machine: Machine, tmp_path):
    spec = write_project(tmp_path / "project", WITH_A_PROCESS_OF_ITS_OWN)
    api = machine.deploy(spec, "--port", free_port())
    endpoint, worker = api.endpoint, psutil.Process(api.row()["processes"]["worker 0"])
    left_behind = psutil.Process(post(endpoint, json={}).json())
    worker.kill()
    assert post(endpoint, json={}).json() != left_behind.pid
    wait_for(lambda: has_ended(left_behind))


def test_what_a_predictor_forked_holds_neither_the_port_nor_the_supervisor_when_that_is_killed(
    machine: Machine, tmp_path
):
    spec = write_project(tmp_path / "project", FORKED)
    port = free_port()
    api = machine.deploy(spec, "--port", port)
    forked = psutil.Process(post(api.endpoint, json={}).json())
    worker = psutil.Process(api.row()["processes"]["worker 0"])
    supervisor = worker.parent()
    assert supervisor is not None
    worker.suspend()
    supervisor.kill()
    try:
        worker.wait(60)
        assert machine.deploy(spec, "--port", port).endpoint == f"http://127.0.0.1:{port}"
    finally:
        if forked.is_running():
            forked.kill()


def test_a_worker_that_fails_while_it_starts_is_tried_again_until_it_succeeds(machine: Machine, tmp_path):
    spec = write_project(tmp_path / "project", SULKING)
    api = machine.deploy(spec, "--port", free_port())
    endpoint = api.endpoint
    (tmp_path / "project" / "sulk").touch()
    psutil.Process(api.row()["processes"]["worker 0"]).kill()
    wait_for(lambda: api.log().count("did not start: predictor.py failed while it was set up") >= 2)
    (tmp_path / "project" / "sulk").unlink()
    assert post(endpoint, json={}).text == "here"
