import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.conftest import free_port
from tests.inference.hanging_server import FAREWELL
from tests.inference.test_engine_failures import image

pytestmark = pytest.mark.slow

SERVER = Path(__file__).with_name("hanging_server.py")
GRACE = 1.0


@contextmanager
def fake_server(folder: Path, model: Path, grace: float = GRACE) -> Iterator[tuple[subprocess.Popen, str]]:
    """The server of hanging_server.py, and the URL of its REST; its first line is still to be read."""
    rest = f"127.0.0.1:{free_port()}"
    models = [{"name": "fake", "path": str(model)}]
    settings = {"address": f"unix:{folder}/server.sock", "rest_address": rest, "models": models, "grace": grace}
    (folder / "settings.json").write_text(json.dumps(settings))
    with subprocess.Popen(
        [sys.executable, str(SERVER), str(folder / "settings.json")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, f"http://{rest}/v1/models/fake:predict"
        finally:
            process.kill()


def ask(url: str, first: int) -> requests.Response:
    return requests.post(url, json={"instances": image(first).tolist()}, timeout=60)


def test_a_fake_engine_that_hangs_does_not_keep_the_server_beyond_its_grace(tmp_path):
    with fake_server(tmp_path, tmp_path) as (process, url), ThreadPoolExecutor() as callers:
        assert process.stdout.readline().startswith("serving fake")
        assert ask(url, 1).json()["predictions"][0][0] == 1
        hung = callers.submit(ask, url, 13)
        assert process.stdout.readline() == "running\n"
        process.terminate()
        refused = hung.result()
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["x-request-id"]
        assert refused.json() == {
            "error": "The server is being stopped and could not wait for this request any longer: try again."
        }
        out, errors = process.communicate(timeout=60)
        assert (process.returncode, out) == (1, "spans\n")
        assert f"{GRACE + FAREWELL:g} s after the signal to end, an engine or a thread still runs" in errors
        assert "Traceback" not in errors


def test_what_a_slow_fake_engine_answers_within_the_grace_is_answered_and_the_end_is_a_good_one(tmp_path):
    with fake_server(tmp_path, tmp_path, grace=25) as (process, url), ThreadPoolExecutor() as callers:
        assert process.stdout.readline().startswith("serving fake")
        slow = callers.submit(ask, url, 14)
        assert process.stdout.readline() == "running\n"
        process.terminate()
        assert slow.result().json()["predictions"][0][0] == 14
        assert process.communicate(timeout=60) == ("spans\n", "")
        assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_fake_engine_loads_ends_it_at_once_without_a_trace(tmp_path, number):
    (tmp_path / "endless").mkdir()
    with fake_server(tmp_path, tmp_path / "endless") as (process, _):
        assert process.stdout.readline() == "loading\n"
        process.send_signal(number)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == -number
