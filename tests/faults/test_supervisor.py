"""The supervisor is killed, or what it has on disk is gone."""

import json
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.conftest import DeployedApi, Machine, free_port, post, wait_for
from tests.faults.test_deploys import GATED, supervisor_of
from tests.projects import write_project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    machine = Machine(tmp_path_factory.mktemp("machine"))
    yield machine
    machine.clean()


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    fields = {"threads_per_process": 4, "processes_per_replica": 2}
    return write_project(tmp_path_factory.mktemp("project"), GATED, predictor=fields)


@pytest.fixture
def api(machine: Machine, spec):
    """Deployed once more for each test, unless the one before has left it as it was."""
    return machine.deploy(spec, "--port", machine_port(machine))


def machine_port(machine: Machine) -> int:
    rows = machine.get()
    return int(rows[0]["endpoint"].rsplit(":", 1)[1]) if rows else free_port()


def record_of(api: DeployedApi):
    return api.machine.state / "visionserve" / "apis" / api.name / "deployment.json"


def kill_supervisor(api: DeployedApi) -> list[psutil.Process]:
    """With one worker stopped, which therefore cannot notice it, and the other amid a long request."""
    supervisor, processes = supervisor_of(api), api.row()["processes"]
    children = supervisor.children(recursive=True)
    psutil.Process(processes["worker 1"]).send_signal(signal.SIGSTOP)
    supervisor.kill()
    supervisor.wait()
    psutil.wait_procs([child for child in children if child.pid != processes["worker 1"]], 60)
    return children


@pytest.mark.parametrize("record", ["kept", "lost"])
def test_after_the_supervisor_is_killed_get_says_so_and_deploy_has_the_port_again(machine: Machine, spec, api, record):
    endpoint = api.endpoint
    with ThreadPoolExecutor(1) as threads:
        cut = threads.submit(post, endpoint, json={"gate": "/nowhere"})
        wait_for(lambda: api.row()["in_flight"] == 1)
        processes = kill_supervisor(api)
        assert cut.exception() is not None
    if record == "kept":
        assert "dead" in api.row()["status"]
    else:
        record_of(api).unlink()
        assert machine.get() == []
    again = machine.deploy(spec, "--port", endpoint.rsplit(":", 1)[1])
    assert again.endpoint == endpoint
    assert {post(endpoint, json={}).status_code for _ in range(8)} == {200}
    assert psutil.wait_procs(processes, 60)[1] == []
    assert len(list(record_of(api).parent.glob("run-*"))) == 1


def test_what_runs_is_not_lost_with_its_record(machine: Machine, spec, api):
    row, record = api.row(), record_of(api)
    for text in (b"", b'{"name": "small", "run', b'{"version": 2}', b"\xff\xfe\x00", None):
        record.unlink()
        if text is not None:
            record.write_bytes(text)
        assert api.row()["processes"] == row["processes"], text
        assert json.loads(record.read_bytes())["name"] == "small"
    record.unlink()
    assert f"{api.name} is up to date at {row['endpoint']}" in machine.cortex("deploy", spec).stdout


def test_delete_ends_what_runs_without_a_record(machine: Machine, api):
    processes = list(api.row()["processes"].values())
    record_of(api).write_text("{}")
    assert machine.cortex("delete", api.name).returncode == 0
    assert not any(map(psutil.pid_exists, processes))
    assert machine.get() == []


def test_delete_ends_a_supervisor_that_hangs_and_all_its_processes(machine: Machine, api):
    supervisor = supervisor_of(api)
    everything = [supervisor, *supervisor.children(recursive=True)]
    for process in everything:
        process.suspend()
    assert api.row()["status"] == "not answering"
    assert machine.cortex("delete", api.name).returncode == 0
    # Whose parent is gone is there until the system has noticed its end.
    assert psutil.wait_procs(everything, 60)[1] == []


def test_deploy_replaces_what_runs_on_after_its_folder_was_removed(machine: Machine, spec, api):
    endpoint, supervisor = api.endpoint, supervisor_of(api)
    processes = [supervisor, *supervisor.children(recursive=True)]
    shutil.rmtree(machine.state / "visionserve")
    assert machine.deploy(spec, "--port", endpoint.rsplit(":", 1)[1]).endpoint == endpoint
    assert post(endpoint, json={}).status_code == 200
    assert not any(process.is_running() for process in processes)
