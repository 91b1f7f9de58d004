import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from visionserve.errors import InferenceError
from visionserve.inference.casualties import FATAL
from visionserve.inference.client import ServingClient

SERVER = Path(__file__).with_name("deadly_server.py")


@pytest.fixture
def restarted(tmp_path):
    """The address of a server of a fake, deadly engine that is started again whenever it dies; counts its starts."""
    settings = tmp_path / "settings.json"
    # With an interval, so that the deadly request has company the first time, however slowly requests come.
    models = [{"name": "fake", "path": str(tmp_path), "max_batch_size": 4, "batch_interval": 0.5}]
    address = f"unix:{tmp_path / 'model.sock'}"
    settings.write_text(json.dumps({"address": address, "models": models, "casualties": str(tmp_path / "casualties")}))
    processes: list[subprocess.Popen] = []
    ended = threading.Event()

    def keep() -> None:
        while not ended.is_set():
            processes.append(subprocess.Popen([sys.executable, str(SERVER), str(settings)], stdout=subprocess.DEVNULL))
            processes[-1].wait()

    keeper = threading.Thread(target=keep)
    keeper.start()
    yield address, processes
    ended.set()
    processes[-1].terminate()
    keeper.join(60)


def image(first: int) -> dict[str, np.ndarray]:
    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    pixels[0, 0, 0, 0] = first
    return {"input": pixels}


@pytest.mark.slow
def test_requests_beside_one_that_kills_a_fake_engine_are_answered_and_it_alone_is_refused(restarted, tmp_path):
    address, processes = restarted
    client = ServingClient(address, {"fake": "serving_default"})
    client.wait_until_available(60)

    def ask(first: int) -> float | Exception:
        try:
            return float(client.predict(image(first))["output"][0, 0])
        except InferenceError as error:
            return error

    firsts = list(range(1, 25))
    with ThreadPoolExecutor(len(firsts)) as threads:
        answers = dict(zip(firsts, threads.map(ask, firsts), strict=True))
    killer = answers.pop(13)
    assert isinstance(killer, InferenceError)
    assert f"died {FATAL} times with this request" in str(killer)
    assert answers == {first: first for first in firsts if first != 13}
    assert len(processes) == FATAL + 1
    batches = (tmp_path / "batches").read_text().splitlines()
    deadly = [batch.split() for batch in batches if "13" in batch.split()]
    assert len(deadly[0]) > 1
    assert deadly[1:] == [["13"]] * (FATAL - 1)
    client.close()
