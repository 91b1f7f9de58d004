"""Updates and ends of a deployment under load."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from tests.conftest import REPOSITORY, DeployedApi, Machine, free_port, post, wait_for
from tests.projects import ECHO, VERSIONED, repository_spec, write_project
from tests.steady_load import Load
from visionserve.cortex.host import FAREWELL

pytestmark = pytest.mark.slow

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())
# Beyond the 30 seconds after which Kubernetes kills: these machines are busy.
END_SECONDS = 60
# Answers when the file is there that a request names.
GATED = """
import os
import time

class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        while "gate" in payload and not os.path.exists(payload["gate"]):
            time.sleep(0.05)
        return "done"
"""


def supervisor_of(api: DeployedApi) -> psutil.Process:
    supervisor = psutil.Process(api.row()["processes"]["worker 0"]).parent()
    assert supervisor is not None
    return supervisor


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "visionserve.cortex.cli", *map(str, arguments)]


def test_ten_updates_in_a_row_fail_no_request(machine: Machine, tmp_path):
    def spec(version: int):
        fields = {"config": {"version": version}, "threads_per_process": 8}
        return write_project(tmp_path / "project", VERSIONED, predictor=fields)

    def seen(load: Load) -> set[int]:
        return {json.loads(answer.body)["version"] for answer in list(load.answers) if answer.status == 200}

    api = machine.deploy(spec(0), "--port", free_port())
    endpoint = api.endpoint
    anew = {"connection": "close"}
    with Load(endpoint, {}, clients=3) as kept_alive, Load(endpoint, {}, clients=3, headers=anew) as connecting:
        loads = kept_alive, connecting
        wait_for(lambda: all(seen(load) == {0} for load in loads))
        for version in range(1, 11):
            done = machine.cortex("deploy", spec(version))
            assert f"updated small: live at {endpoint}" in done.stdout, done.stdout + done.stderr
            # From now on, new connections get the new version only.
            assert post(endpoint, json={}).json() == {"version": version}
            wait_for(lambda version=version: all(version in seen(load) for load in loads))
    for load in loads:
        assert load.failed == []
        assert seen(load) == set(range(11))
    processes = set(api.row()["processes"].values())
    supervisor = supervisor_of(api)
    wait_for(lambda: {child.pid for child in supervisor.children()} == processes)
    wait_for(lambda: not list(machine.state.glob("**/run-*/run.json"))[1:])


def test_a_model_that_does_not_load_leaves_the_old_one_serving(machine: Machine, model, tmp_path):
    spec = repository_spec(tmp_path / "project", REPOSITORY, model)
    api = machine.deploy(spec, "--port", free_port(), "--engine", "openvino")
    processes = api.row()["processes"]
    broken = tmp_path / "broken"
    shutil.copytree(model / "1", broken / "1")
    graph = broken / "1" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-1000])
    with Load(api.endpoint, SAMPLE, clients=2) as load:
        wait_for(lambda: load.answers)
        spec = repository_spec(tmp_path / "project", REPOSITORY, broken)
        done = machine.cortex("deploy", spec, "--engine", "openvino")
        answered = len(load.answers)
        wait_for(lambda: len(load.answers) >= answered + 4)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(broken) in done.stderr
    assert load.failed == []
    assert api.row()["processes"] == processes


def test_sigterm_answers_what_is_in_flight_and_takes_no_new_connection(machine: Machine, tmp_path):
    spec = write_project(tmp_path / "project", GATED, predictor={"threads_per_process": 8, "processes_per_replica": 2})
    api = machine.deploy(spec, "--port", free_port())
    endpoint, supervisor = api.endpoint, supervisor_of(api)
    everything = [supervisor, *supervisor.children(recursive=True)]
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(5) as threads, requests.Session() as session:

        def ask_until_told_to_end() -> None:
            """On one connection, and without a pause: it is kept for FAREWELL seconds only."""
            deadline = time.monotonic() + END_SECONDS
            while session.post(endpoint, json={}).headers.get("connection") != "close":
                assert time.monotonic() < deadline

        held = [threads.submit(post, endpoint, json={"gate": str(gate)}) for _ in range(4)]
        wait_for(lambda: api.row()["in_flight"] == 4)
        answered = threading.Event()
        session.hooks["response"].append(lambda *_, **__: answered.set())
        kept_alive = threads.submit(ask_until_told_to_end)
        assert answered.wait(END_SECONDS)
        supervisor.send_signal(signal.SIGTERM)
        supervisor.send_signal(signal.SIGTERM)
        # Its connection is kept alive: it goes on being answered, and is told to end.
        kept_alive.result()
        wait_for(lambda: refuses(endpoint))
        # Beyond the time for connections that are kept alive.
        time.sleep(FAREWELL + 1)
        assert not any(answer.done() for answer in held)
        gate.touch()
    assert [answer.result().status_code for answer in held] == [200] * 4
    _, alive = psutil.wait_procs(everything, END_SECONDS)
    assert alive == []
    assert machine.get() == []
    assert log(machine).count("status=200") >= len(held)
    assert "Traceback" not in log(machine)


def test_a_request_that_never_ends_does_not_hold_up_the_end(machine: Machine, tmp_path):
    api = machine.deploy(write_project(tmp_path / "project", GATED), "--port", free_port())
    supervisor = supervisor_of(api)
    everything = [supervisor, *supervisor.children(recursive=True)]
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(post, api.endpoint, json={"gate": str(tmp_path / "gate")})
        wait_for(lambda: api.row()["in_flight"] == 1)
        supervisor.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(everything, END_SECONDS)
    assert alive == []
    answer = held.result()
    assert (answer.status_code, "is being stopped" in answer.json()["error"]) == (503, True)
    assert "status=503" in log(machine)
    assert "Traceback" not in log(machine)
    assert machine.get() == []


def log(machine: Machine) -> str:
    """Of an API that has ended."""
    return "".join(path.read_text() for path in machine.state.rglob("api.log"))


def refuses(endpoint: str) -> bool:
    try:
        requests.get(f"{endpoint}/healthz", timeout=60)
    except requests.ConnectionError as error:
        return "refused" in str(error)
    return False


def test_a_deployment_in_the_foreground_drains_on_sigterm_even_if_it_comes_twice(machine: Machine, tmp_path):
    spec = write_project(tmp_path / "project", GATED)
    port, gate = free_port(), tmp_path / "gate"
    endpoint = f"http://127.0.0.1:{port}"
    foreground = subprocess.Popen(
        command("deploy", spec, "--port", port, "--foreground"), env=machine.environment, stdout=subprocess.DEVNULL
    )
    with ThreadPoolExecutor(1) as threads:
        wait_for(lambda: [row["status"] for row in machine.get()] == ["live"])
        held = threads.submit(post, endpoint, json={"gate": str(gate)})
        wait_for(lambda: machine.get()[0]["in_flight"] == 1)
        foreground.send_signal(signal.SIGTERM)
        wait_for(lambda: refuses(endpoint))
        foreground.send_signal(signal.SIGTERM)
        gate.touch()
        assert held.result().status_code == 200
    foreground.wait(END_SECONDS)
    assert machine.get() == []


def test_of_two_deploys_at_the_same_moment_one_wins_and_the_other_says_so(machine: Machine, tmp_path):
    gate = tmp_path / "gate"
    waiting = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.05)\n"
    spec = write_project(tmp_path / "project", waiting + ECHO)
    first = subprocess.Popen(
        command("deploy", spec, "--port", free_port()), env=machine.environment, stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: list(machine.state.rglob("api.log")))
    for arguments in (("deploy", spec), ("delete", "small")):
        other = machine.cortex(*arguments)
        assert other.returncode == 1
        assert "Another cortex command is changing small now" in other.stderr or "no API named small" in other.stderr
    gate.touch()
    assert first.communicate()[0].startswith("created small")
    assert machine.get()[0]["status"] == "live"


def test_two_apis_that_ask_for_one_port_at_the_same_moment_get_one_each(machine: Machine, tmp_path):
    port = free_port()
    deploys = []
    for name in ("one", "two"):
        spec = write_project(tmp_path / name, ECHO, name=name)
        deploys.append(subprocess.Popen(command("deploy", spec, "--port", port), env=machine.environment))
    assert [deploy.wait(300) for deploy in deploys] == [0, 0]
    endpoints = {row["name"]: row["endpoint"] for row in machine.get()}
    assert len(set(endpoints.values())) == 2
    assert f"http://127.0.0.1:{port}" in endpoints.values()
    assert {post(endpoint, json={}).status_code for endpoint in endpoints.values()} == {200}
