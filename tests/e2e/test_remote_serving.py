"""Workers before a TensorFlow Serving elsewhere. No TensorFlow Serving runs here: our model server, which speaks its
protocol, stands in for it."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import MODEL, REPOSITORY, Machine, free_port, post, wait_for
from tests.projects import repository_spec, with_patience

pytestmark = pytest.mark.slow

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())


@contextmanager
def stand_in(folder, port: int, engine: str = "openvino") -> Iterator[subprocess.Popen]:
    models = [{"name": "resnet50", "path": str(MODEL), "engine": engine, "threads": 2}]
    settings = folder / "server.json"
    settings.write_text(json.dumps({"address": f"127.0.0.1:{port}", "models": models}))
    command = [sys.executable, "-m", "visionserve.inference.model_server", str(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving resnet50")
            yield process
        finally:
            process.kill()


def test_the_same_spec_asks_a_stand_in_for_tensorflow_serving_and_finds_it_again_after_a_restart(
    machine: Machine, model, tmp_path
):
    port = free_port()
    spec = with_patience(repository_spec(tmp_path / "project", REPOSITORY, model))
    with stand_in(tmp_path, port) as first:
        api = machine.deploy(spec, "--tensorflow-serving", f"127.0.0.1:{port}", "--port", free_port())
        row = api.row()
        assert row["engine"] == "TensorFlow Serving"
        assert set(row["processes"]) == {"worker 0", "worker 1"}
        assert post(api.endpoint, json=SAMPLE).json()[0] == "Egyptian_cat"
        first.kill()
        first.wait()
    answers = []
    asked = threading.Thread(target=lambda: answers.append(post(api.endpoint, json=SAMPLE)))
    asked.start()
    wait_for(lambda: api.row()["in_flight"] == 1)
    with stand_in(tmp_path, port):
        asked.join(60)
        assert answers[0].json()[0] == "Egyptian_cat"
        wait_for(lambda: post(api.endpoint.rstrip("/") + "/", json=SAMPLE).status_code == 200)


def test_a_server_that_is_not_there_or_lacks_the_model_fails_the_deploy_in_one_sentence(
    machine: Machine, model, tmp_path
):
    port = free_port()
    with stand_in(tmp_path, port, engine="null"):
        done = machine.cortex("deploy", "cortex_cpu.yaml", "--tensorflow-serving", f"127.0.0.1:{port}/vgg")
    assert done.returncode == 1
    assert f"The server at 127.0.0.1:{port} serves no model 'vgg'" in done.stderr
    done = machine.cortex("deploy", "cortex_cpu.yaml", "--tensorflow-serving", "nonsense")
    assert (done.returncode, "is not HOST:PORT" in done.stderr) == (2, True)
    done = machine.cortex("deploy", "cortex_cpu.yaml", "--tensorflow-serving", "localhost:8500", "--engine", "openvino")
    assert (done.returncode, "--engine" in done.stderr) == (2, True)
