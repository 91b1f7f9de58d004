import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.conftest import free_port, wait_for
from tests.inference.repositories import add_version
from tests.photos import encoded
from tests.services.function.functions import running_function
from tests.services.function.hanging_function import END_SECONDS


@pytest.mark.slow
def test_a_fake_engine_that_hangs_does_not_keep_the_function_beyond_its_grace(tmp_path):
    add_version(tmp_path / "model", 1)
    (tmp_path / "default.png").write_bytes(encoded(np.full((224, 224, 3), 13, np.uint8)))
    port = free_port()
    command = [sys.executable, "-m", "tests.services.function.hanging_function", str(port)]
    environment = {"PORT": port, "ENGINE": "null", "MODEL_PATH": tmp_path / "model", "DATA_PATH": tmp_path}
    with ThreadPoolExecutor() as callers, running_function(command, **environment) as function:
        hung = callers.submit(function.get)
        wait_for(lambda: "running" in function.log())
        function.process.terminate()
        assert hung.result().status_code == 503
        assert hung.result().headers["retry-after"] == "1"
        assert list(hung.result().json()) == ["error"]
        assert function.process.wait(60) == 1
        assert f"{END_SECONDS:g} s after the signal to end, an engine or a thread still runs" in function.log()
        assert "Traceback" not in function.log()
