"""The disk is full or read-only, the state folder is not what it should be, file descriptors are short."""

import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from tests.conftest import REPOSITORY, DeployedApi, Machine, free_port, post, wait_for
from tests.faults.private_disk import PrivateDisk
from tests.projects import repository_spec, write_project

pytestmark = pytest.mark.slow

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())
WRITING = """
open("made", "w").close()

class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        print("x" * payload.get("printed", 0), flush=True)
        return "done"
"""


@pytest.fixture(scope="module")
def disk() -> Iterator[PrivateDisk]:
    # Near the root, as a user's home is: sockets need short paths, and with a longer one a run's folder is elsewhere.
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        disk = PrivateDisk(Path(home), megabytes=16)
        yield disk
        disk.clean()


@pytest.fixture(scope="module")
def classifier_spec(model, tmp_path_factory) -> Path:
    return repository_spec(tmp_path_factory.mktemp("project"), REPOSITORY, model)


@pytest.fixture(scope="module")
def classifier(disk: PrivateDisk, classifier_spec) -> DeployedApi:
    with umask(0):
        return disk.deploy(classifier_spec, "--port", free_port(), "--engine", "null")


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("home"))
    yield machine
    machine.clean()


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"), WRITING)


@pytest.fixture
def api(machine: Machine, spec) -> DeployedApi:
    return machine.deploy(spec)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    yield
    os.umask(before)


def folder_of(machine: Machine) -> Path:
    return machine.state / "visionserve" / "apis" / "small"


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def kill(api: DeployedApi, process: str) -> None:
    """Returns when it is back."""
    killed = api.row()["processes"][process]
    psutil.Process(killed).kill()
    wait_for(lambda: api.row()["processes"].get(process) not in (None, killed))


def refusal(machine: Machine, *arguments: object) -> str:
    """The one sentence of a command that fails."""
    done = machine.cortex(*arguments)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


def test_nothing_in_the_state_folder_is_open_to_others(disk: PrivateDisk, classifier: DeployedApi):
    assert post(classifier.endpoint, json=SAMPLE).status_code == 200
    found = {path: path.lstat().st_mode for path in (disk.disk / "visionserve").rglob("*")}
    assert {path.name for path, mode in found.items() if stat.S_ISSOCK(mode)} == {"control.sock", "model.sock"}
    assert {path.name for path in found} >= {"api.log", "run.json", "deployment.json", "in_flight", "casualties"}
    assert {str(path): oct(mode) for path, mode in found.items() if mode & 0o077} == {}
    assert {stat.S_IMODE(mode) for mode in found.values() if stat.S_ISREG(mode)} == {0o600}


def test_a_deployment_goes_on_when_its_disk_is_full_and_deploy_says_so(disk: PrivateDisk, classifier, classifier_spec):
    endpoint = classifier.endpoint
    disk.fill()
    # More than the rest of the log's last page holds in lines of access.
    assert {post(endpoint, json=SAMPLE).status_code for _ in range(60)} == {200}
    for process in ("worker 0", "model server"):
        kill(classifier, process)
        wait_for(lambda: post(endpoint, json=SAMPLE).status_code == 200)
    processes = classifier.row()["processes"]
    disk.fill()  # what died has left some room
    sentence = refusal(disk, "deploy", classifier_spec, "--engine", "null", "--force")
    assert "No space left on device" in sentence
    assert "free some space" in sentence
    row = classifier.row()
    assert (row["status"], row["processes"]) == ("live", processes)
    disk.make_room()
    assert post(endpoint, json=SAMPLE).status_code == 200
    lost = "lines before this one could not be written: No space left on device"
    wait_for(lambda: lost in next(disk.disk.rglob("api.log")).read_text())
    assert disk.cortex("deploy", classifier_spec, "--engine", "null", "--force").returncode == 0


def test_a_deployment_goes_on_when_its_folder_is_read_only_and_deploy_says_so(
    disk: PrivateDisk, classifier, classifier_spec
):
    disk.make_read_only()
    assert post(classifier.endpoint, json=SAMPLE).status_code == 200
    sentence = refusal(disk, "deploy", classifier_spec, "--engine", "null", "--force")
    assert "Read-only file system" in sentence
    assert "Read-only file system" in refusal(disk, "delete", classifier.name)
    row = classifier.row()
    assert (row["status"], row["requests"]["5xx"]) == ("live", 0)
    disk.make_writable()
    assert disk.cortex("delete", classifier.name).returncode == 0


def test_what_is_in_the_way_in_the_state_folder_is_named(machine: Machine, spec):
    folder = folder_of(machine)
    for name in ("lock", "api.log"):
        (folder / name).mkdir(parents=True)
        assert str(folder / name) in refusal(machine, "deploy", spec)
        shutil.rmtree(folder)
    folder.touch()
    assert str(folder) in refusal(machine, "deploy", spec)
    folder.unlink()
    (folder / "deployment.json").mkdir(parents=True)
    done = machine.cortex("deploy", spec, "--port", free_port())
    assert done.returncode == 0
    assert "was no record of an API" in done.stderr


def test_deploy_closes_the_state_folder_to_others_and_leaves_the_predictor_its_umask(machine: Machine, spec, api):
    folder, made = folder_of(machine), spec.with_name("made")
    made.unlink()
    folder.chmod(0o777)
    (folder / "api.log").chmod(0o666)
    with umask(0o027):
        assert machine.cortex("deploy", spec, "--force").returncode == 0
    assert [permissions(path) for path in (folder, folder / "api.log", made)] == [0o700, 0o600, 0o640]


def test_metrics_that_are_no_metrics_end_neither_get_nor_deploy(machine: Machine, spec, api):
    # Of a process that has ended, with a length that no file has.
    (folder_of(machine) / "metrics" / "counter_4194305.db").write_bytes(b"\x7f" * 500)
    endpoint = api.endpoint
    assert requests.get(f"{endpoint}/metrics", timeout=60).status_code == 200
    assert machine.cortex("deploy", spec, "--force").returncode == 0
    assert post(endpoint, json={}).status_code == 200


@pytest.mark.parametrize("limit", [12, 30])
def test_too_few_file_descriptors_for_a_deployment_are_named(machine: Machine, spec, limit):
    command = [sys.executable, "-m", "visionserve.cortex.cli", "deploy", str(spec), "--force"]
    done = subprocess.run(
        ["sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", *command],
        env=machine.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "ulimit" in done.stderr


def test_a_worker_without_file_descriptors_says_so_and_goes_on_when_it_has_some(api: DeployedApi):
    row = api.row()
    endpoint, worker = row["endpoint"], psutil.Process(row["processes"]["worker 0"])
    limits = worker.rlimit(resource.RLIMIT_NOFILE)
    worker.rlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # what is open stays open
    with pytest.raises(requests.RequestException):
        requests.post(endpoint, json={}, timeout=1)
    wait_for(lambda: "Too many open files" in api.log())
    worker.rlimit(resource.RLIMIT_NOFILE, limits)
    assert post(endpoint, json={}).status_code == 200
    assert api.row()["processes"] == row["processes"]


def test_a_log_that_was_removed_is_begun_anew_and_rotated(machine: Machine, api):
    log, endpoint = folder_of(machine) / "api.log", api.endpoint
    log.unlink()
    for _ in range(25):
        post(endpoint, json={"printed": 1_000_000})
    wait_for(log.with_name("api.log.1").exists)
    assert log.with_name("api.log.1").stat().st_size >= 20 << 20
    wait_for(log.exists)
    assert permissions(log) == 0o600
