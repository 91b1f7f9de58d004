import signal
import subprocess
import sys

import pytest

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
