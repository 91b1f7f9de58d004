import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests
import yaml

from tests.conftest import REPOSITORY, Machine, free_port, post, wait_for
from tests.projects import ECHO, repository_spec, write_project

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())


@pytest.mark.slow
def test_a_deployed_api_outlives_the_command_and_delete_ends_it(machine: Machine, tmp_path):
    spec = write_project(tmp_path / "project", ECHO)
    api = machine.deploy(spec, "--port", free_port())
    row = api.row()
    assert (row["status"], row["replicas"]) == ("live", "1/1")
    assert post(row["endpoint"], json={"a": 1}).json()["payload"] == {"a": 1}
    done = machine.cortex("delete", "small")
    assert (done.returncode, done.stdout) == (0, "deleted small\n")
    assert machine.get() == []
    with pytest.raises(requests.ConnectionError):
        post(row["endpoint"], json={})


@pytest.mark.slow
def test_deleting_an_unknown_name_lists_the_names_there_are(machine: Machine, tmp_path):
    assert "nothing is deployed" in machine.cortex("delete", "nobody").stderr
    machine.deploy(write_project(tmp_path / "project", ECHO), "--port", free_port())
    done = machine.cortex("delete", "nobody")
    assert done.returncode == 1
    assert "no API named nobody; deployed are: small" in done.stderr
    assert machine.cortex("logs", "nobody").returncode == 1
    assert machine.cortex("get", "nobody").returncode == 1


@pytest.mark.slow
def test_a_port_in_use_gives_way_to_the_next_free_one_and_is_said(machine: Machine, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = machine.cortex("deploy", write_project(tmp_path / "project", ECHO), "--port", port)
        assert done.returncode == 0, done.stderr
        assert f"Port {port} is in use" in done.stderr
        (row,) = machine.get()
        assert row["endpoint"] != f"http://127.0.0.1:{port}"
        assert post(row["endpoint"], json={}).status_code == 200


def test_the_tensorflow_engine_gives_the_same_labels(machine: Machine, model, tmp_path, classifier):
    spec = repository_spec(tmp_path / "project", REPOSITORY, model)
    api = machine.deploy(spec, "--port", free_port(), "--engine", "tensorflow")
    assert api.row()["engine"] == "tensorflow"
    theirs = post(api.endpoint, json=SAMPLE, params={"scores": "true"}).json()
    ours = post(classifier.endpoint, json=SAMPLE, params={"scores": "true"}).json()
    for one, other in zip(theirs, ours, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


@pytest.mark.parametrize(("spec", "device"), [("cortex_gpu.yaml", "NVIDIA GPU"), ("cortex_accelerator.yaml", "Neuron")])
def test_hardware_that_this_machine_lacks_is_refused_unless_the_cpu_is_asked_for(machine: Machine, model, spec, device):
    if any(Path("/dev").glob("nvidia[0-9]*")) or any(Path("/dev").glob("neuron[0-9]*")):
        pytest.skip("this machine has the hardware that the test needs to be missing")
    refused = machine.cortex("deploy", spec)
    assert refused.returncode == 1
    assert device in refused.stderr
    assert "--compute cpu" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    api = machine.deploy(spec, "--compute", "cpu", "--port", free_port(), "--engine", "openvino")
    assert post(api.endpoint, json=SAMPLE).json()[0] == "Egyptian_cat"


def test_a_model_folder_that_is_missing_or_no_saved_model_is_one_sentence(machine: Machine, tmp_path):
    spec = repository_spec(tmp_path / "project", REPOSITORY, tmp_path / "nowhere")
    missing = machine.cortex("deploy", spec)
    assert (missing.returncode, len(missing.stderr.strip().splitlines())) == (1, 1)
    assert f"{tmp_path / 'nowhere'} is missing" in missing.stderr
    (tmp_path / "nowhere").mkdir()
    empty = machine.cortex("deploy", spec)
    assert (empty.returncode, len(empty.stderr.strip().splitlines())) == (1, 1)
    assert "is not a SavedModel" in empty.stderr


@pytest.mark.slow
def test_a_broken_saved_model_fails_the_deploy_with_its_reason(machine: Machine, tmp_path):
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "saved_model.pb").write_bytes(b"no model")
    spec = repository_spec(tmp_path / "project", REPOSITORY, tmp_path / "broken")
    done = machine.cortex("deploy", spec, "--port", free_port(), "--engine", "openvino")
    assert done.returncode == 1
    assert f"OpenVINO cannot load {tmp_path / 'broken' / '1'}" in done.stderr
    assert machine.get() == []


def test_a_wrong_spec_is_exit_code_2_with_file_line_and_allowed_values(machine: Machine, tmp_path):
    spec = write_project(tmp_path / "project", ECHO)
    text = spec.read_text().replace("type: python", "type: pyton")
    spec.write_text(text)
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "pyton" in row)
    done = machine.cortex("deploy", spec)
    assert done.returncode == 2
    assert f"cortex.yaml:{line}" in done.stderr
    assert "python, tensorflow" in done.stderr


@pytest.mark.slow
def test_several_apis_in_one_file_are_each_deployed(machine: Machine, tmp_path):
    spec = write_project(tmp_path / "project", ECHO)
    (api,) = yaml.safe_load(spec.read_text())
    ports = [free_port(), free_port()]
    apis = [{**api, "name": f"api-{i}", "networking": {"local_port": port}} for i, port in enumerate(ports)]
    spec.write_text(yaml.safe_dump(apis))
    machine.deploy(spec)
    assert [row["name"] for row in machine.get()] == ["api-0", "api-1"]
    assert machine.cortex("deploy", spec, "--port", free_port()).returncode == 2


def test_cortex_test_runs_the_predictor_without_a_server(machine: Machine, model, tmp_path):
    done = machine.cortex("test", "cortex_cpu.yaml", "-d", "sample.json", "--engine", "openvino")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0] == "Egyptian_cat"
    assert machine.get() == []
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"imgs": []}')
    refused = machine.cortex("test", "cortex_cpu.yaml", "-d", wrong, "--engine", "null")
    assert refused.returncode == 1
    assert "imgs is an empty list" in refused.stderr


def test_the_null_engine_answers_without_a_model(machine: Machine, tmp_path):
    spec = repository_spec(tmp_path / "project", REPOSITORY, tmp_path / "nowhere")
    api = machine.deploy(spec, "--engine", "null", "--port", free_port())
    assert len(post(api.endpoint, json=SAMPLE).json()) == 5


@pytest.mark.slow
def test_foreground_shows_the_log_and_ctrl_c_deletes_the_api(machine: Machine, tmp_path):
    spec = write_project(tmp_path / "project", "print('loaded the predictor')\n" + ECHO)
    command = [sys.executable, "-m", "visionserve.cortex.cli", "deploy", str(spec), "--foreground"]
    command += ["--port", str(free_port())]
    process = subprocess.Popen(command, env=machine.environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    assert lines[0].startswith("created small")
    assert "loaded the predictor" in lines[1]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert machine.get() == []


def two_apis(folder: Path, second: str = ECHO) -> tuple[Path, list[int]]:
    """A spec of the APIs `one` and `two`, and their ports."""
    spec = write_project(folder, "print('loaded the predictor', flush=True)\n" + ECHO)
    (folder / "second.py").write_text(second)
    (api,) = yaml.safe_load(spec.read_text())
    ports = [free_port(), free_port()]
    one = {**api, "name": "one", "networking": {"local_port": ports[0]}}
    two = {**api, "name": "two", "networking": {"local_port": ports[1]}, "predictor": {**api["predictor"]}}
    two["predictor"]["path"] = "second.py"
    spec.write_text(yaml.safe_dump([one, two]))
    return spec, ports


def staying(machine: Machine, spec: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "visionserve.cortex.cli", "deploy", str(spec), "--foreground"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=machine.environment, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["it fails", "SIGTERM"])
def test_a_foreground_whose_second_api_does_not_start_deletes_the_first(machine: Machine, tmp_path, how):
    slow = "print('slowly', flush=True)\nimport time\ntime.sleep(60)"
    broken = "raise OSError('no disk')" if how == "it fails" else slow
    spec, _ = two_apis(tmp_path / "project", broken)
    process = staying(machine, spec)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("created one")
    if how == "SIGTERM":
        log = machine.state / "visionserve/apis/two/api.log"
        wait_for(lambda: log.exists() and "slowly" in log.read_text())
        process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == (1 if how == "it fails" else 130), errors
    assert ("no disk" in errors) == (how == "it fails")
    assert machine.get() == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["deleted", "killed"])
def test_a_foreground_ends_with_any_of_its_apis_and_shows_all_their_logs_from_its_own_start(
    machine: Machine, tmp_path, how
):
    spec, ports = two_apis(tmp_path / "project")
    # What an earlier deployment has logged is no business of this one.
    machine.deploy(spec)
    for port in ports:
        post(f"http://127.0.0.1:{port}", json={}, params={"earlier": 1})
    machine.cortex("delete", "one")
    process = staying(machine, spec)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(3)]
    assert said[0].startswith("created one")
    assert said[1].startswith("two is up to date")
    assert said[2].startswith("one: ")
    assert "loaded the predictor" in said[2]
    for port in ports:
        post(f"http://127.0.0.1:{port}", json={})
    lines = [process.stdout.readline() for _ in range(2)]
    assert {line.split()[0] for line in lines} == {"one:", "two:"}
    # An update by another command is no end.
    assert machine.cortex("deploy", spec, "--force").returncode == 0
    if how == "deleted":
        assert machine.cortex("delete", "two").returncode == 0
    else:
        record = json.loads((machine.state / "visionserve/apis/two/deployment.json").read_text())
        psutil.Process(record["pid"]).kill()
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("Error: two ")
    assert ("was ended by something else" if how == "deleted" else "was killed") in errors
    assert "earlier" not in "".join([*said, *lines, rest])
    assert machine.get() == []


def test_help_and_version_load_no_engine():
    code = "import sys; sys.argv[1:] = ['{}']\nfrom visionserve.cortex.cli import main\n"
    code += "try: main()\nexcept SystemExit as end: assert end.code == 0\n"
    code += "assert not {{'tensorflow', 'openvino', 'cv2', 'keras'}} & set(sys.modules)"
    for word in ("--help", "version"):
        subprocess.run([sys.executable, "-c", code.format(word)], check=True, capture_output=True)
