import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.conftest import REPOSITORY, DeployedApi, Machine, free_port, post, wait_for
from tests.faults import hanging_engine
from tests.projects import repository_spec, write_project
from tests.steady_load import Load

pytestmark = pytest.mark.slow

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())

ASKING = """
import numpy as np

class TensorFlowPredictor:
    def __init__(self, tensorflow_client, config):
        self.client = tensorflow_client

    def predict(self, payload):
        images = np.zeros((payload.get("images", 1), 224, 224, 3), np.uint8)
        images[:, 0, 0, 0] = payload["first"]
        return float(np.reshape(self.client.predict({"input": images})["output"], (-1, 1000))[:, 0].mean())
"""

WITH_THE_FAKE_ENGINE = """
import sys

if "visionserve.inference.model_server" in sys.orig_argv:
    import tests.faults.hanging_engine
"""


@pytest.fixture(scope="module")
def fake(tmp_path_factory) -> Iterator[DeployedApi]:
    """An API whose model server has the fake engine of hanging_engine.py."""
    folder = tmp_path_factory.mktemp("fake")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(WITH_THE_FAKE_ENGINE)
    (folder / "model").mkdir()
    machine = Machine(folder / "home")
    machine.environment["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), str(REPOSITORY)])
    machine.environment[hanging_engine.FOLDER] = str(folder)
    predictor = {
        "type": "tensorflow",
        "model_path": str(folder / "model"),
        "threads_per_process": 64,
        "server_side_batching": {"max_batch_size": 64, "batch_interval": "10ms"},
    }
    yield machine.deploy(
        write_project(folder / "project", ASKING, predictor=predictor), "--port", free_port(), "--engine", "null"
    )
    machine.clean()


class Health:
    """What /healthz says, asked again and again."""

    def __init__(self, endpoint: str) -> None:
        self.codes: list[int] = []
        self._url = f"{endpoint}/healthz"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Health":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.1):
            self.codes.append(requests.get(self._url, timeout=60).status_code)


def test_a_model_server_that_is_stopped_under_load_is_replaced_and_healthz_says_503_until_then(
    machine: Machine, model: Path, tmp_path
):
    spec = repository_spec(tmp_path / "project", REPOSITORY, model)
    api = machine.deploy(spec, "--port", free_port(), "--engine", "openvino")
    endpoint, stopped = api.endpoint, api.row()["processes"]["model server"]
    with Load(endpoint, SAMPLE, 4) as load:
        wait_for(lambda: len(load.answers) >= 4)
        os.kill(stopped, signal.SIGSTOP)
        with Health(endpoint) as health:
            # Due in 6 s.
            wait_for(lambda: 200 in health.codes, 120)
        answered = len(load.answers)
        wait_for(lambda: len(load.answers) >= answered + 4)
    assert health.codes[0] == 503
    assert set(health.codes) == {200, 503}
    assert {answer.status for answer in load.answers} <= {200, 503}
    assert {json.loads(answer.body)[0] for answer in load.answers if answer.status == 200} == {"Egyptian_cat"}
    assert api.row()["processes"]["model server"] != stopped
    # The batch that it was stopped in stands still too, and may have begun before the event loop's last turn.
    reasons = "its event loop has stood still|a batch has been running"
    assert re.search(rf"model server \(process {stopped}\) hangs: ({reasons}) for", api.log())


def test_a_request_that_hangs_a_fake_engine_three_times_is_refused_and_others_get_their_answers(fake: DeployedApi):
    endpoint = fake.endpoint
    before = fake.row()["restarts"]

    def ask(first: int) -> tuple[int, str]:
        answer = post(endpoint, json={"first": first})
        return answer.status_code, answer.text

    with ThreadPoolExecutor(8) as threads, Health(endpoint) as health:
        bad = threads.submit(ask, hanging_engine.HANGS)
        others = {}
        while not bad.done():
            others = {first: threads.submit(ask, first) for first in range(1, 7)}
            for first, answer in others.items():
                assert answer.result() == (200, str(float(first)))
    assert bad.result()[0] == 500
    assert set(health.codes) == {200, 503}
    wait_for(lambda: requests.get(f"{endpoint}/healthz", timeout=60).status_code == 200)
    assert fake.row()["restarts"] == before + 3
    log = fake.log()
    assert "The engine died 3 times with this request" in log
    assert "hangs: a batch has been running for" in log
    assert "hangs: its event loop has stood still for" in log


def test_a_large_batch_and_a_first_one_of_its_shape_take_their_time_on_a_fake_engine(fake: DeployedApi):
    endpoint, before = fake.endpoint, fake.row()["restarts"]
    # What the engine takes for one image is known by then.
    assert post(endpoint, json={"first": 1}).json() == 1
    with ThreadPoolExecutor(2) as threads:
        large = threads.submit(post, endpoint, json={"first": hanging_engine.SLOW, "images": 64})
        # More than the single images of the test before can have made a batch of.
        new = threads.submit(post, endpoint, json={"first": hanging_engine.SLOW_AT_A_NEW_SHAPE, "images": 8})
        assert (large.result().json(), new.result().json()) == (hanging_engine.SLOW, hanging_engine.SLOW_AT_A_NEW_SHAPE)
    assert fake.row()["restarts"] == before, fake.log()
