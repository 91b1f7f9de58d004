import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import REPOSITORY, Machine, free_port, post
from tests.faults.bombs import BOMBS, encoded
from tests.projects import repository_spec

CPU_SECONDS = 0.1
MEMORY_BYTES = 50 << 20


@pytest.fixture(scope="module")
def api(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One worker, and the engine that answers without a model: what is measured is what comes before it."""
    folder = tmp_path_factory.mktemp("bombs")
    machine = Machine(folder / "home")
    spec = repository_spec(folder / "project", REPOSITORY, model, predictor={"processes_per_replica": 1})
    row = machine.deploy(spec, "--engine", "null", "--port", free_port()).row()
    # Decoders are set up by their first picture.
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        assert post(row["endpoint"], data=encoded((64, 48), kind)).status_code == 200
    yield row
    machine.clean()


class Worker:
    """What the API's worker takes from now on; peaks are those of its memory in the machine, as Linux tells them."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self._status = Path(f"/proc/{self.process.pid}/status")
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        self._bytes, self._seconds = self.process.memory_info().rss, self._cpu()

    def seconds(self) -> float:
        return self._cpu() - self._seconds

    def bytes(self) -> int:
        peak = re.search(r"VmHWM:\s+(\d+) kB", self._status.read_text())
        assert peak
        return int(peak[1]) * 1024 - self._bytes

    def _cpu(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks of memory are told by Linux alone")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_little_time_and_memory_of_the_worker(api: dict[str, Any], name: str) -> None:
    bomb = BOMBS[name]
    data = bomb.file()
    worker = Worker(api["processes"]["worker 0"])
    answer = post(api["endpoint"], data=data)
    seconds, taken = worker.seconds(), worker.bytes()
    if bomb.refusal is None:
        assert (answer.status_code, len(answer.json())) == (200, 5)
    else:
        assert answer.status_code == 400
        assert bomb.refusal in answer.json()["error"]
    assert seconds < CPU_SECONDS
    assert taken < MEMORY_BYTES
    assert worker.process.is_running()
