"""The clock is set, and the machine sleeps."""

import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import psutil
import pytest

from tests.conftest import REPOSITORY, DeployedApi, Machine, free_port, post, wait_for
from tests.faults.clock import Clock
from tests.faults.test_deploys import supervisor_of
from tests.projects import repository_spec
from tests.steady_load import Load

pytestmark = pytest.mark.slow

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())
HOUR = 3600
# Longer than what hangs may hang, shorter than a test should sleep; benchmarks/faults/sleep.py sleeps for a minute.
SLEEP_SECONDS = 6
BATCHING = {"server_side_batching": {"max_batch_size": 4, "batch_interval": "50ms"}}


@pytest.fixture(scope="module")
def clock(tmp_path_factory) -> Clock | None:
    return Clock(tmp_path_factory.mktemp("clock")) if Clock.available() else None


@pytest.fixture(scope="module")
def api(clock: Clock | None, model, tmp_path_factory) -> Iterator[DeployedApi]:
    machine = Machine(tmp_path_factory.mktemp("home"))
    real = dict(machine.environment)
    if clock is not None:
        machine.environment.update(clock.environment)
    changes = {**BATCHING, "processes_per_replica": 2}
    spec = repository_spec(tmp_path_factory.mktemp("project"), REPOSITORY, model, predictor=changes)
    api = machine.deploy(spec, "--port", free_port(), "--engine", "openvino")
    machine.environment = real
    yield api
    machine.clean()


def more_answers(load: Load, count: int = 12) -> None:
    """Returns when `count` requests were sent from now on and answered."""
    begin = time.monotonic()
    wait_for(lambda: sum(answer.sent > begin for answer in list(load.answers)) >= count)


def test_requests_and_batches_go_on_when_the_clock_jumps_an_hour_either_way(clock: Clock | None, api: DeployedApi):
    if clock is None:
        pytest.skip("no clock that can be set: cc, a C compiler, not found")
    before = api.row()
    with Load(before["endpoint"], SAMPLE, clients=3) as load:
        more_answers(load)
        for offset in (HOUR, -HOUR, 0):
            clock.set(offset)
            more_answers(load)
            seen = parsedate_to_datetime(post(before["endpoint"], json=SAMPLE).headers["date"])
            assert abs(seen - datetime.now(timezone.utc) - timedelta(seconds=offset)) < timedelta(seconds=HOUR / 2)
            # Of a process that is found by its start on the clock, nothing would be left.
            assert api.row()["status"] == "live"
    assert load.failed == []
    after = api.row()
    assert (after["processes"], after["restarts"]) == (before["processes"], 0)


def test_a_deployment_that_slept_goes_on_as_if_nothing_had_been(api: DeployedApi):
    before = api.row()
    supervisor = supervisor_of(api)
    with Load(before["endpoint"], SAMPLE, clients=3) as load:
        more_answers(load)
        everything: list[psutil.Process] = [supervisor, *supervisor.children(recursive=True)]
        for process in everything:
            process.suspend()
        time.sleep(SLEEP_SECONDS)
        # The supervisor last, as it was stopped first: it must not watch others that are still stopped.
        for process in reversed(everything):
            process.resume()
        more_answers(load)
    assert load.failed == []
    after = api.row()
    assert (after["status"], after["processes"], after["restarts"]) == ("live", before["processes"], 0)
