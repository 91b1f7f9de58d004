import json
import time
from pathlib import Path

from tests.bench.conftest import Bench, Run
from tests.bench.servers import Exchange

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
LOGS = ["mlperf_log_accuracy.json", "mlperf_log_detail.txt", "mlperf_log_summary.txt", "mlperf_log_trace.json"]


class MlperfBench(Bench):
    """The command through LoadGen, which leaves its logs in `logs`."""

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def command(self, *arguments: object) -> list[str]:
        return super().command("--mlperf-log", self.logs, *arguments)

    def log(self, name: str) -> str:
        return (self.logs / f"mlperf_log_{name}").read_text()


def slow(exchange: Exchange) -> None:
    time.sleep(0.03)
    exchange.answer()


def three_at_once(exchange: Exchange) -> None:
    """The first three wait for one another."""
    exchange.record.wait_for(3)
    slow(exchange)


def images_of(record) -> list[int]:
    """The number of images of each request."""
    return [len(json.loads(body)["imgs"]) for body in record.bodies]


def assert_refused(run: Run, *words: str) -> None:
    assert run.code == 2, run.out + run.err
    assert run.err.count("\n") == 1
    assert run.figures is None
    for word in words:
        assert word in run.err
