import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import requests

from tests.conftest import Machine, free_port, post, wait_for
from tests.projects import ECHO, write_project

pytestmark = pytest.mark.slow


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


@pytest.fixture
def taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.mark.parametrize("wish", ["of the spec", "of the command"])
def test_an_api_that_got_another_port_than_it_asked_for_keeps_it(machine: Machine, tmp_path, taken_port, wish):
    networking = {"local_port": taken_port} if wish == "of the spec" else {}
    spec = write_project(tmp_path / "project", ECHO, networking=networking)
    options = () if networking else ("--port", taken_port)
    api = machine.deploy(spec, *options)
    endpoint, processes = api.endpoint, api.row()["processes"]
    assert not endpoint.endswith(f":{taken_port}")
    again = machine.cortex("deploy", spec, *options)
    assert f"small is up to date at {endpoint}" in again.stdout
    assert f"Port {taken_port} was in use: small stays at {endpoint.rsplit(':', 1)[1]}" in again.stderr
    assert api.row()["processes"] == processes
    assert f"live at {endpoint} after" in machine.cortex("deploy", spec, *options, "--force").stdout
    assert post(endpoint, json={}).status_code == 200
    other = free_port()
    assert f"live at http://127.0.0.1:{other} after" in machine.cortex("deploy", spec, "--port", other).stdout


def status_at(host: str, port: int) -> int | None:
    """None where nothing listens."""
    try:
        return post(f"http://{host}:{port}", json={}).status_code
    except requests.ConnectionError:
        return None


def test_another_address_keeps_the_port(machine: Machine, tmp_path):
    spec = write_project(tmp_path / "project", ECHO)
    port = free_port()
    machine.deploy(spec, "--port", port)
    # All of 127/8 is this machine on Linux.
    for host, elsewhere in (("0.0.0.0", 200), ("127.0.0.1", None)):
        done = machine.cortex("deploy", spec, "--port", port, "--host", host)
        assert f"updated small: live at http://127.0.0.1:{port} after" in done.stdout, done.stderr
        assert "is in use" not in done.stderr
        assert post(f"http://127.0.0.1:{port}", json={}).status_code == 200
        assert status_at("127.0.0.2", port) == elsewhere


def test_an_address_at_which_it_does_not_start_leaves_the_old_one_serving(machine: Machine, tmp_path):
    project, port = tmp_path / "project", free_port()
    api = machine.deploy(write_project(project, ECHO), "--port", port, "--host", "0.0.0.0")
    spec = write_project(project, ECHO.replace("self.config = config", "raise OSError('no disk')"))
    assert machine.cortex("deploy", spec, "--port", port, "--host", "127.0.0.1").returncode == 1
    assert {post(f"http://127.0.0.{number}:{port}", json={}).status_code for number in (1, 2)} == {200}
    assert api.row()["status"] == "live"


def test_a_long_state_folder_with_other_letters_than_english_is_no_hindrance(tmp_path):
    # Its characters would fit in the address of a Unix socket, its bytes would not.
    home = Path(tempfile.mkdtemp(), "状態" * 12)
    home.mkdir()
    machine = Machine(home)
    try:
        assert post(machine.deploy(write_project(tmp_path, ECHO), "--port", free_port()).endpoint, json={}).ok
    finally:
        machine.clean()
        shutil.rmtree(home.parent)
