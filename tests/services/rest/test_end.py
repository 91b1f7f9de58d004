import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import requests

from tests.conftest import free_port, wait_for
from tests.inference.repositories import add_version
from tests.photos import encoded
from tests.services.rest.rest_services import environment, error

pytestmark = pytest.mark.slow

HANGS = encoded(np.full((224, 224, 3), 13, np.uint8))


def test_requests_before_a_fake_engine_that_hangs_are_refused_after_one_grace_for_service_and_model_server(tmp_path):
    add_version(tmp_path / "models/resnet50", 1)
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "tests.services.rest.hanging_service", str(port)]
    with (
        open(log, "w") as output,
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=output, stderr=output) as process,
        ThreadPoolExecutor() as callers,
    ):
        try:
            wait_for(lambda: "classifying at" in log.read_text() or process.poll() is not None)
            children = psutil.Process(process.pid).children()
            url = f"http://127.0.0.1:{port}/classify/resnet"
            hung = callers.submit(requests.post, url, files={"image": ("photo", HANGS)}, timeout=60)
            wait_for(lambda: "model server: running" in log.read_text())
            process.terminate()
            status, sentence = error(hung.result())
            assert (status, sentence.split(" and ")[0]) == (503, "The server is being stopped")
            assert hung.result().headers["retry-after"] == "1"
            # With one for each of the two it would leave before the end of the second, with 1.
            assert process.wait(60) == 0
            assert not any(child.is_running() for child in children)
            assert "Traceback" not in log.read_text()
        finally:
            process.kill()
