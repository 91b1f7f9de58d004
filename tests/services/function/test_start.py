import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

from tests.conftest import REPOSITORY, free_port, run, wait_for
from tests.services.function.functions import COMMAND, running_function
from visionserve.cli import main

# As Knative Functions' scaffolding starts a function.
MIDDLEWARE = [sys.executable, "-c", "from func_python.http import serve; from func import new; serve(new)"]

# `visionserve function`, whose engine is loaded when there is a file GATE.
WAITING = """
import os, time
from visionserve.cli import main
from visionserve.inference import served_model

load_engine = served_model.load_engine

def load_when_told(*arguments):
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.05)
    return load_engine(*arguments)

served_model.load_engine = load_when_told
main(["function"])
"""


def test_it_is_alive_at_once_and_ready_with_its_model(model, tmp_path):
    gate = tmp_path / "gate"
    command = [sys.executable, "-c", WAITING]
    with ThreadPoolExecutor() as callers, running_function(command, ENGINE="tensorflow", GATE=gate) as function:
        readiness = function.get("/health/readiness")
        assert (readiness.status_code, readiness.text) == (500, "The model is being loaded.")
        assert function.get("/health/liveness").text == "OK"
        answer = callers.submit(function.get, "/?imageName=test1")
        gate.touch()
        assert answer.result().json() == {"top_prediction": [["Egyptian cat"]]}
        assert function.get("/health/readiness").text == "OK"


def test_it_is_neither_ready_nor_alive_when_its_model_does_not_load(model, tmp_path):
    shutil.copytree(model, tmp_path / "resnet50")
    (tmp_path / "resnet50/1/saved_model.pb").write_bytes(b"no model")
    with running_function(MODEL_PATH=tmp_path / "resnet50") as function:
        wait_for(lambda: "being loaded" not in function.get("/health/readiness").text)
        for path in ("/health/readiness", "/health/liveness"):
            answer = function.get(path)
            assert answer.status_code == 500
            assert str(tmp_path) in answer.text
        answer = function.get("/?imageName=test1")
        assert (answer.status_code, answer.json()["error"]) == (500, function.get("/health/readiness").text)
        assert function.log().count("ERROR") == 1
        assert "Traceback" not in function.log()


@pytest.mark.parametrize(
    ("environment", "code", "message"),
    [
        ({"MODEL_PATH": "nowhere"}, 1, "nowhere is missing"),
        ({"ENGINE": "magic"}, 2, "ENGINE is wrong"),
        ({"S3_ENABLED": "perhaps"}, 2, "S3_ENABLED is wrong"),
        ({"PORT": "many"}, 2, "--port"),
    ],
)
def test_a_wrong_setting_is_one_sentence(model, monkeypatch, environment, code, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = run(COMMAND)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_one_sentence(function):
    done = run([*COMMAND, "--port", function.url.rpartition(":")[2]])
    assert done.returncode == 1
    assert "choose another port" in done.stderr


def test_func_py_is_what_the_middleware_of_knative_runs(model):
    port = free_port()
    environment = {"PORT": port, "LISTEN_ADDRESS": f"127.0.0.1:{port}", "MODEL_PATH": model, "DATA_PATH": "data"}
    with running_function(MIDDLEWARE, REPOSITORY / "deploy/knative", **environment) as function:
        assert function.get("/?imageName=test1").json() == {"top_prediction": [["Egyptian cat"]]}


def test_the_middleware_ends_for_a_wrong_setting(monkeypatch):
    monkeypatch.setenv("S3_ENABLED", "perhaps")
    done = run(MIDDLEWARE, cwd=REPOSITORY / "deploy/knative")
    assert done.returncode == 1
    assert "UsageError: S3_ENABLED is wrong" in done.stderr.splitlines()[-1]


def test_without_its_packages_it_says_how_to_install_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "func_python", None)
    done = CliRunner().invoke(main, ["function"])
    assert done.exit_code == 3
    assert done.stderr.startswith("Error: The function needs func_python: run scripts/setup functions in ")
    assert done.stderr.count("\n") == 1
