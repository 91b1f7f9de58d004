import json
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import requests
import yaml

from tests.conftest import REPOSITORY, Machine, free_port, post
from tests.projects import ECHO, VERSIONED, repository_spec, write_project

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"{condition.__name__} did not come true in {seconds} s")


def healthy(endpoint: str) -> bool:
    try:
        return requests.get(f"{endpoint}/healthz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


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


def test_deleting_an_unknown_name_lists_the_names_there_are(machine: Machine, tmp_path):
    assert "nothing is deployed" in machine.cortex("delete", "nobody").stderr
    machine.deploy(write_project(tmp_path / "project", ECHO), "--port", free_port())
    done = machine.cortex("delete", "nobody")
    assert done.returncode == 1
    assert "no API named nobody; deployed are: small" in done.stderr
    assert machine.cortex("logs", "nobody").returncode == 1
    assert machine.cortex("get", "nobody").returncode == 1


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


def test_predict_gets_the_arguments_that_it_names_and_the_project_around_it(machine: Machine, tmp_path):
    source = """
import os
from helper import GREETING

class PythonPredictor:
    def __init__(self, config):
        self.words = open("words.txt").read()

    def predict(self, query_params):
        return GREETING + self.words + os.environ["WHO"] + query_params["mark"]
"""
    spec = write_project(tmp_path / "project", source, predictor={"env": {"WHO": "you"}, "python_path": "lib"})
    (tmp_path / "project" / "lib").mkdir()
    (tmp_path / "project" / "lib" / "helper.py").write_text("GREETING = 'hello '")
    (tmp_path / "project" / "words.txt").write_text("to ")
    api = machine.deploy(spec, "--port", free_port())
    answer = post(api.endpoint, params={"mark": "!"})
    assert (answer.text, answer.headers["content-type"]) == ("hello to you!", "text/plain; charset=utf-8")


def test_results_are_sent_as_cortex_sends_them_and_post_predict_runs_afterwards(machine: Machine, tmp_path):
    source = f"""
from starlette.responses import Response

class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        kinds = {{"bytes": b"12", "text": "12", "json": [1, {{"a": None}}], "response": Response("no", 418)}}
        if payload["kind"] == "error":
            raise ValueError("the reason is in the log")
        return kinds[payload["kind"]]

    def post_predict(self, response, payload):
        with open({str(tmp_path / "seen")!r}, "a") as file:
            file.write(payload["kind"] + " ")
"""
    api = machine.deploy(write_project(tmp_path / "project", source), "--port", free_port())
    endpoint = api.endpoint

    def answer(kind):
        got = post(endpoint, json={"kind": kind})
        return got.status_code, got.headers.get("content-type", "").split(";")[0], got.text

    assert answer("bytes") == (200, "application/octet-stream", "12")
    assert answer("text") == (200, "text/plain", "12")
    assert answer("json") == (200, "application/json", '[1,{"a":null}]')
    assert answer("response")[0::2] == (418, "no")
    assert answer("error") == (500, "text/plain", "internal server error")
    wait_for(lambda: (tmp_path / "seen").read_text().split() == ["bytes", "text", "json", "response"])
    assert "the reason is in the log" in api.log()


def test_requests_over_max_replica_concurrency_get_503(machine: Machine, tmp_path):
    source = "import time\nclass PythonPredictor:\n    def __init__(self, config): pass\n"
    source += "    def predict(self, payload):\n        time.sleep(1.5)\n        return 1\n"
    spec = write_project(
        tmp_path / "project",
        source,
        predictor={"processes_per_replica": 2, "threads_per_process": 4},
        autoscaling={"max_replica_concurrency": 3, "target_replica_concurrency": 3},
    )
    endpoint = machine.deploy(spec, "--port", free_port()).endpoint
    codes: list[int] = []
    clients = [threading.Thread(target=lambda: codes.append(post(endpoint, json={}).status_code)) for _ in range(3)]
    for client in clients:
        client.start()
    time.sleep(0.7)
    refused = post(endpoint, json={})
    for client in clients:
        client.join()
    assert codes == [200, 200, 200]
    assert refused.status_code == 503
    assert "max_replica_concurrency=3" in refused.json()["error"]
    assert "retry-after" in refused.headers
    assert post(endpoint, json={}).status_code == 200


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


def test_a_killed_worker_is_started_again(machine: Machine, tmp_path):
    import psutil

    api = machine.deploy(write_project(tmp_path / "project", ECHO), "--port", free_port())
    endpoint, killed = api.endpoint, api.row()["processes"]["worker 0"]
    psutil.Process(killed).kill()
    wait_for(lambda: api.row()["processes"].get("worker 0") not in (None, killed))
    assert post(endpoint, json={"a": 1}).json()["payload"] == {"a": 1}
    assert api.row()["restarts"] == 1
    assert "ended with code -9" in api.log()


def test_a_killed_supervisor_takes_its_processes_along_and_deploy_starts_afresh(machine: Machine, tmp_path):
    import psutil

    spec = write_project(tmp_path / "project", ECHO)
    port = free_port()
    api = machine.deploy(spec, "--port", port)
    worker = psutil.Process(api.row()["processes"]["worker 0"])
    worker.parent().kill()
    worker.wait(10)
    assert "dead" in api.row()["status"]
    again = machine.deploy(spec, "--port", port)
    assert again.endpoint == f"http://127.0.0.1:{port}"
    assert post(again.endpoint, json={}).status_code == 200


def test_a_killed_model_server_is_started_again_and_no_answer_is_wrong(machine: Machine, model, tmp_path):
    import psutil

    spec = repository_spec(tmp_path / "project", REPOSITORY, model)
    api = machine.deploy(spec, "--port", free_port(), "--engine", "openvino")
    endpoint = api.endpoint
    assert post(endpoint, json=SAMPLE).json()[0] == "Egyptian_cat"
    psutil.Process(api.row()["processes"]["model server"]).kill()
    while (answer := post(endpoint, json=SAMPLE)).status_code != 200:
        assert answer.status_code == 503, answer.text
        assert "retry-after" in answer.headers
        time.sleep(0.2)
    assert answer.json()[0] == "Egyptian_cat"
    wait_for(lambda: healthy(endpoint))


@pytest.mark.slow
def test_the_tensorflow_engine_gives_the_same_labels(machine: Machine, model, tmp_path, classifier):
    spec = repository_spec(tmp_path / "project", REPOSITORY, model)
    api = machine.deploy(spec, "--port", free_port(), "--engine", "tensorflow")
    assert api.row()["engine"] == "tensorflow"
    theirs = post(api.endpoint, json=SAMPLE, params={"scores": "true"}).json()
    ours = post(classifier.endpoint, json=SAMPLE, params={"scores": "true"}).json()
    for one, other in zip(theirs, ours, strict=True):
        assert one["label"] == other["label"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


def test_server_side_batching_and_several_models_of_one_api(machine: Machine, model, tmp_path):
    source = """
import numpy as np

class TensorFlowPredictor:
    def __init__(self, tensorflow_client, config):
        self.client = tensorflow_client

    def predict(self, payload):
        image = np.full((1, 224, 224, 3), payload["grey"], np.uint8)
        output = self.client.predict({"input": image}, payload["model"])["output"]
        return int(np.argmax(output))
"""
    predictor = {
        "type": "tensorflow",
        "models": {"paths": [{"name": name, "model_path": str(model)} for name in ("one", "two")]},
        "threads_per_process": 8,
        "server_side_batching": {"max_batch_size": 4, "batch_interval": "50ms"},
    }
    spec = write_project(tmp_path / "project", source, predictor=predictor)
    endpoint = machine.deploy(spec, "--port", free_port(), "--engine", "openvino").endpoint
    answers: dict[tuple[str, int], int] = {}

    def ask(name: str, grey: int) -> None:
        answers[name, grey] = post(endpoint, json={"model": name, "grey": grey}).json()

    clients = [threading.Thread(target=ask, args=(name, grey)) for name in ("one", "two") for grey in (0, 99, 200, 255)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(answers) == 8
    for grey in (0, 99, 200, 255):
        assert answers["one", grey] == answers["two", grey]
    assert post(endpoint, json={"model": "three", "grey": 0}).status_code == 500


@pytest.mark.parametrize(("spec", "device"), [("cortex_gpu.yaml", "NVIDIA GPU"), ("cortex_accelerator.yaml", "Neuron")])
def test_hardware_that_this_machine_lacks_is_refused_unless_the_cpu_is_asked_for(machine: Machine, model, spec, device):
    from pathlib import Path

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
    process.communicate(timeout=60)
    assert machine.get() == []


def test_help_and_version_load_no_engine(machine: Machine):
    code = "import sys; sys.argv[1:] = ['{}']\nfrom visionserve.cortex.cli import main\n"
    code += "try: main()\nexcept SystemExit as end: assert end.code == 0\n"
    code += "assert not {{'tensorflow', 'openvino', 'cv2', 'keras'}} & set(sys.modules)"
    for word in ("--help", "version"):
        subprocess.run([sys.executable, "-c", code.format(word)], check=True, capture_output=True)
