import json
import signal
import subprocess
import sys
import threading

import pytest
import requests

from tests.conftest import Machine, free_port, post, wait_for
from tests.projects import ECHO, VERSIONED, write_project

pytestmark = pytest.mark.slow


class Load:
    """One client that posts without a pause and keeps every status code and body."""

    def __init__(self, endpoint: str) -> None:
        self.answers: list[tuple[int, str]] = []
        self.failures: list[str] = []
        self._endpoint = endpoint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                try:
                    answer = session.post(self._endpoint, json={}, timeout=30)
                    self.answers.append((answer.status_code, answer.text))
                except requests.RequestException as error:
                    self.failures.append(repr(error))


def test_a_changed_spec_is_rolled_without_a_lost_request(machine: Machine, tmp_path):
    def spec(version: int):
        return write_project(
            tmp_path / "project", VERSIONED, predictor={"config": {"version": version}, "threads_per_process": 4}
        )

    endpoint = machine.deploy(spec(0), "--port", free_port()).endpoint
    with Load(endpoint) as one, Load(endpoint) as two, Load(endpoint) as three:
        for version in range(1, 4):
            done = machine.cortex("deploy", spec(version))
            assert f"updated small: live at {endpoint}" in done.stdout, done.stdout + done.stderr
            assert post(endpoint, json={}).json() == {"version": version}
        wait_for(lambda: all(load.answers[-1][1] == '{"version":3}' for load in (one, two, three)))
    for load in (one, two, three):
        assert load.failures == []
        assert {code for code, _ in load.answers} == {200}
        seen = [json.loads(body)["version"] for _, body in load.answers]
        assert seen == sorted(seen)
        assert set(seen) >= {0, 3}


def test_an_unchanged_spec_is_left_alone_unless_forced(machine: Machine, tmp_path):
    spec = write_project(tmp_path / "project", ECHO)
    api = machine.deploy(spec, "--port", free_port())
    processes = api.row()["processes"]
    port = int(api.endpoint.rsplit(":", 1)[1])
    done = machine.cortex("deploy", spec, "--port", port)
    assert "small is up to date" in done.stdout
    assert api.row()["processes"] == processes
    assert "updated small" in machine.cortex("deploy", spec, "--port", port, "--force").stdout
    assert api.row()["processes"] != processes
    (tmp_path / "project" / "predictor.py").write_text(ECHO + "\n# changed\n")
    assert "updated small" in machine.cortex("deploy", spec, "--port", port).stdout


def test_a_deploy_that_fails_says_why_and_leaves_the_old_one_serving(machine: Machine, tmp_path):
    project = tmp_path / "project"
    api = machine.deploy(write_project(project, ECHO), "--port", free_port())
    processes = api.row()["processes"]
    spec = write_project(project, ECHO.replace("self.config = config", "raise OSError('no disk')"))
    done = machine.cortex("deploy", spec)
    assert done.returncode == 1
    assert "OSError: no disk" in done.stderr
    assert "no disk" in api.log()
    assert api.row()["processes"] == processes
    assert post(api.endpoint, json={}).status_code == 200


def test_ctrl_c_during_a_deploy_leaves_the_old_one_serving(machine: Machine, tmp_path):
    project = tmp_path / "project"
    api = machine.deploy(write_project(project, ECHO), "--port", free_port())
    processes = api.row()["processes"]
    spec = write_project(project, "print('slowly', flush=True)\nimport time\ntime.sleep(60)\n" + ECHO)
    command = [sys.executable, "-m", "visionserve.cortex.cli", "deploy", str(spec)]
    changing = subprocess.Popen(command, env=machine.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: "slowly" in api.log())
    changing.send_signal(signal.SIGINT)
    changing.communicate(timeout=60)
    assert changing.returncode == 130
    assert api.row()["processes"] == processes
    assert post(api.endpoint, json={}).status_code == 200
    wait_for(lambda: "stopped while it was starting" in api.log())


def test_two_deploys_at_once_one_wins_and_the_other_says_so(machine: Machine, tmp_path):
    source = "import time\ntime.sleep(3)\n" + ECHO
    spec = write_project(tmp_path / "project", source)
    command = [sys.executable, "-m", "visionserve.cortex.cli", "deploy", str(spec), "--port", str(free_port())]
    first = subprocess.Popen(command, env=machine.environment, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: list(machine.state.rglob("api.log")))
    second = machine.cortex("deploy", spec)
    assert first.communicate()[0].startswith("created small")
    assert second.returncode == 1
    assert "Another cortex command is changing small now" in second.stderr


def test_a_virtual_environment_in_the_project_is_not_part_of_it(machine: Machine, tmp_path):
    spec = write_project(tmp_path / "project", ECHO)
    library = tmp_path / "project" / "environment" / "lib" / "module.py"
    library.parent.mkdir(parents=True)
    (tmp_path / "project" / "environment" / "pyvenv.cfg").touch()
    library.write_text("a = 1")
    machine.deploy(spec, "--port", free_port())
    library.write_text("a = 2")
    assert "is up to date" in machine.cortex("deploy", spec).stdout
    (tmp_path / "project" / "helper.py").write_text("a = 1")
    assert "updated small" in machine.cortex("deploy", spec).stdout
