"""What goes wrong on a Ray cluster, and what is left of it."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path

import pytest
import requests

from tests.conftest import REPOSITORY, Machine, free_port, wait_for
from tests.projects import write_project
from visionserve.cortex.ray_serve.records import RayStore

SOURCE = """
import io
import os
import sys
import time

class PythonPredictor:
    def __init__(self, config):
        if config.get("reason"):
            raise ValueError(config["reason"])
        if "exit" in config:
            sys.exit(config["exit"])
        if "vanish" in config:
            os._exit(config["vanish"])

    def predict(self, payload):
        if payload.get("die"):
            os.kill(os.getpid(), 9)
        if "print" in payload:
            print(*payload["print"])
            file = io.StringIO()
            print(*payload["print"], file=file)
            return {"in a file": file.getvalue()}
        while "gate" in payload and not os.path.exists(payload["gate"]):
            time.sleep(0.02)
        return {"pid": os.getpid()}
"""
API = {"compute": {"cpu": "200m"}, "autoscaling": {"max_replica_concurrency": 3}}
PREDICTOR = {"threads_per_process": 3, "env": {"OMP_NUM_THREADS": "1"}}


class Api:
    def __init__(self, folder: Path, address: str) -> None:
        self.machine = Machine(folder / "home")
        self.machine.environment["RAY_ADDRESS"] = address
        self.folder = folder
        self.options = ["--env", "ray", "--port", free_port()]
        self.store = RayStore(self.machine.state / "visionserve" / "ray")

    def spec(self, folder: str = "project", **changes: dict) -> Path:
        return write_project(self.folder / folder, SOURCE, **{"predictor": PREDICTOR, **API, **changes})

    def deploy(self, spec: Path, **environment: str):
        before = self.machine.environment
        self.machine.environment = {**before, **environment}
        try:
            return self.machine.cortex("deploy", spec, *self.options)
        finally:
            self.machine.environment = before

    @property
    def endpoint(self) -> str:
        return self.store.get("small").endpoint


@pytest.fixture(scope="module")
def api(ray_node: str, tmp_path_factory: pytest.TempPathFactory):
    api = Api(tmp_path_factory.mktemp("refusals"), ray_node)
    done = api.deploy(api.spec())
    assert done.returncode == 0, done.stdout + done.stderr
    yield api
    api.machine.cortex("delete", "small", "--env", "ray")
    api.machine.clean()


def errors(said: str) -> list[str]:
    """The lines of stderr but those of what a deploy waited for, where the machine was busy."""
    return [line for line in said.splitlines() if not line.startswith(("waiting: ", "note: "))]


def test_an_api_that_does_not_start_leaves_nothing(api: Api):
    done = api.deploy(api.spec("broken", name="broken", predictor={**PREDICTOR, "config": {"reason": "no labels"}}))
    assert done.returncode == 1
    assert errors(done.stderr) == [
        "Error: broken was not deployed: predictor.py failed while it was set up: ValueError: no labels."
    ]
    assert [row["name"] for row in api.machine.get()] == ["small"]


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"exit": 3}, "predictor.py ended its process while it was set up: sys.exit(3)"),
        (
            {"vanish": 3},
            "the process of a replica died: it crashed, had too little memory, or was ended by the predictor.",
        ),
    ],
)
def test_a_predictor_that_ends_its_process_is_told(api: Api, config: dict, why: str):
    first = api.deploy(api.spec("ending", name="ending", predictor={**PREDICTOR, "config": config}))
    update = api.deploy(api.spec("ending", predictor={**PREDICTOR, "config": config}))
    assert (first.returncode, update.returncode) == (1, 1)
    (said_first,), (said_then,) = errors(first.stderr), errors(update.stderr)
    assert said_first.startswith(f"Error: ending was not deployed: {why}")
    assert said_then.startswith(f"Error: small was not updated, and goes on as it was: {why}")


def test_an_api_of_a_cluster_that_is_gone_is_forgotten(api: Api):
    api.store.write(api.store.get("small").model_copy(update={"name": "lost", "address": "127.0.0.1:1"}))
    (row,) = [row for row in api.machine.get() if row["name"] == "lost"]
    assert row["status"].endswith("start one with ray start --head, or forget its APIs with cortex delete.")
    done = api.machine.cortex("delete", "lost")
    assert (done.returncode, done.stdout) == (0, "deleted lost\n")
    assert done.stderr == (
        "note: No Ray cluster answers at 127.0.0.1:1 ([Errno 111] Connection refused), so lost is only forgotten: "
        "should that cluster still run, RAY_ADDRESS=127.0.0.1:1 cortex delete lost --env ray stops it there.\n"
    )
    assert "lost" not in api.store.names()


def test_in_the_foreground_sigterm_deletes_the_api_in_order(api: Api):
    spec = api.spec("stays", name="stays", networking={"endpoint": "/stays"})
    command = [sys.executable, "-m", "visionserve.cortex.cli", "deploy", str(spec), *map(str, api.options)]
    with subprocess.Popen(
        [*command, "--foreground"],
        cwd=REPOSITORY,
        env=api.machine.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("created stays: live at ")
        # A line of the replica's log.
        assert "@" in running.stdout.readline()
        # Serve's clients send their metrics each 10 s.
        time.sleep(11)
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=300)
    assert "stays" not in api.store.names()
    assert errors(said) == []


def test_what_a_predictor_prints_is_in_the_log_as_it_was(api: Api):
    assert post(api, {"print": ["hello", 42]}).json() == {"in a file": "hello 42\n"}
    wait_for(lambda: " -- hello 42\n" in api.machine.cortex("logs", "small").stdout)
    log = api.machine.cortex("logs", "small").stdout
    assert not [line for line in log.splitlines() if line.endswith(": ")]


def test_a_gpu_that_no_node_has_is_refused_before_anything_changes(api: Api):
    done = api.deploy(api.spec("gpu", compute={"gpu": 1}))
    assert done.returncode == 1
    assert "compute.gpu of 1 GPU, but no node of the cluster has more than 0 GPU" in done.stderr
    assert requests.post(api.endpoint, json={}, timeout=60).ok


def test_the_path_of_another_application_is_refused(api: Api):
    done = api.deploy(api.spec("other", name="other", networking={"endpoint": "/small"}))
    assert done.returncode == 1
    assert "The Serve application small of this cluster is at /small already" in done.stderr


def test_a_deploy_during_another_is_refused(api: Api):
    with api.store.lock("small"):
        done = api.deploy(api.spec())
    assert done.returncode == 1
    assert "Another cortex command is changing small now" in done.stderr


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("127.0.0.1:1", 1, "No Ray cluster answers at 127.0.0.1:1 ([Errno 111] Connection refused): start one with"),
        ("ray://127.0.0.1:10001", 2, "RAY_ADDRESS is 'ray://127.0.0.1:10001', not HOST:PORT"),
    ],
)
def test_without_a_cluster_one_sentence_says_so(api: Api, address: str, code: int, said: str):
    done = api.deploy(api.spec(), RAY_ADDRESS=address)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_more_than_max_replica_concurrency_is_answered_503(api: Api, tmp_path: Path):
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(9) as threads:
        asked = [threads.submit(post, api, {"gate": str(gate)}) for _ in range(9)]
        try:
            refused = [first.result() for first in islice(as_completed(asked, 120), 6)]
        finally:
            gate.touch()
        answers = [one.result() for one in asked]
    assert [answer.status_code for answer in refused] == [503] * 6
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [503] * 6
    assert refused[0].json() == {
        "error": "More than max_replica_concurrency=3 requests are in flight: try again later."
    }
    assert refused[0].headers["retry-after"] == "1"


def test_a_replica_that_dies_takes_only_what_it_had_and_is_started_again(api: Api):
    first = post(api, {}).json()["pid"]
    assert post(api, {"die": True}).status_code == 500
    wait_for(lambda: (answer := post(api, {})).ok and answer.json()["pid"] != first, 180)


def test_an_api_in_both_environments_and_a_cluster_that_is_gone(api: Api):
    done = api.machine.cortex("deploy", api.spec("here"), "--port", free_port())
    assert done.returncode == 0, done.stdout + done.stderr
    record = api.store.get("small")
    api.store.write(record.model_copy(update={"address": "127.0.0.1:1"}))
    try:
        rows = {row["env"]: row for row in api.machine.get()}
        assert rows["local"]["status"] == "live"
        assert rows["ray"]["status"].startswith("No Ray cluster answers at 127.0.0.1:1")
        refused = api.machine.cortex("delete", "small")
        assert (refused.returncode, refused.stderr) == (
            2,
            "Error: small is deployed on this machine and on Ray: add --env local or --env ray.\n",
        )
        assert api.machine.cortex("delete", "small", "--env", "local").returncode == 0
    finally:
        api.store.write(record)
    answer = api.machine.cortex("predict", "small", write(api.folder / "empty.json", "{}"))
    assert "pid" in json.loads(answer.stdout)


def post(api: Api, payload: dict) -> requests.Response:
    return requests.post(api.endpoint, json=payload, timeout=120)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_without_a_key_of_its_file_an_api_is_not_asked(api: Api, tmp_path: Path):
    key = "a-key-of-an-api-on-ray-0123456789"
    (tmp_path / "keys").write_text(key)
    spec = api.spec("keyed", name="keyed", networking={"endpoint": "/keyed"})
    done = api.machine.cortex("deploy", spec, *api.options, "--api-key-file", tmp_path / "keys")
    assert done.returncode == 0, done.stderr
    endpoint = api.store.get("keyed").endpoint
    answers = [requests.post(endpoint, json={}, headers=headers, timeout=60) for headers in ({}, {"x-api-key": key})]
    assert [answer.status_code for answer in answers] == [401, 200]
    assert all(len(answer.headers["x-request-id"]) == 36 for answer in answers)
    assert "Bearer $CORTEX_API_KEY" in api.machine.cortex("get", "keyed").stdout
    files = [path for path in api.machine.state.rglob("*") if path.is_file()]
    assert not [path for path in files if key.encode() in path.read_bytes()]
    assert api.machine.cortex("delete", "keyed").returncode == 0


def test_what_serve_decides_itself_is_wrong_usage(api: Api):
    done = api.machine.cortex("deploy", api.spec(), *api.options, "--log-format", "json")
    assert done.returncode == 2
    assert "--log-format and --no-access-log are for --env local" in done.stderr
