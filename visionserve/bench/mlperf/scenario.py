import importlib.util
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from time import perf_counter

from visionserve.bench.load.interrupts import Interrupts, signals_blocked
from visionserve.bench.load.run import unreachable
from visionserve.bench.mlperf.counts import Counts
from visionserve.bench.mlperf.document import document
from visionserve.bench.mlperf.driver import MODULE, Report, run_driver
from visionserve.bench.mlperf.result import ScenarioResult
from visionserve.bench.mlperf.settings import ScenarioSettings
from visionserve.bench.transport.failures import Failure
from visionserve.errors import MissingError, UsageError, VisionserveError

DISTRIBUTION = "mlcommons-loadgen"
# A test that goes on by the clock after the endpoint stopped answering is ended this much later.
GIVE_UP_S = 3.0
STOP_GRACE_S = 5.0

# Is shown what was counted so far, every second.
Watch = Callable[[Counts], None]


def run_scenario(settings: ScenarioSettings, interrupts: Interrupts, watch: Watch | None = None) -> ScenarioResult:
    """Drives the endpoint through LoadGen to its end, or to the first Ctrl-C, or until nothing answers any more.

    LoadGen leaves its mlperf_log_* files in settings.log_dir, in place of those of an earlier run.

    Raises MissingError without LoadGen, UsageError for a folder that cannot be written or an endpoint that cannot be
    reached, KeyboardInterrupt when interrupted before any load was sent, VisionserveError when LoadGen's process dies.
    """
    loadgen_version = check_loadgen()
    _prepare(settings.log_dir)
    with _driver(settings) as driver:
        _wait_until_connected(settings, driver, interrupts)
        started, began = datetime.now(timezone.utc), perf_counter()
        driver.pipe.send(None)
        report, interrupted = _follow(settings, driver, interrupts, watch)
    return document(settings, report, started, perf_counter() - began, interrupted, loadgen_version)


def check_loadgen() -> str:
    """LoadGen's version. Raises MissingError when it is not installed."""
    if importlib.util.find_spec(MODULE) is None:
        raise MissingError(
            f"--scenario needs MLCommons' LoadGen, which is not installed: run pip install {DISTRIBUTION}."
        )
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "of unknown version"


@dataclass
class _Process:
    process: SpawnProcess
    pipe: Connection

    def receive(self) -> object:
        """The next message. Raises VisionserveError when the process is gone."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            self.process.join()
            code = self.process.exitcode or 0
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise VisionserveError(
                f"LoadGen's process ended before its test was over ({how}): run it again."
            ) from error


@contextmanager
def _driver(settings: ScenarioSettings) -> Iterator[_Process]:
    """Starts the process, by spawn: a fork would copy the parent's threads' locks. It does not outlive the block."""
    context = multiprocessing.get_context("spawn")
    # Started on demand, it would unblock the signals that the process is to inherit blocked.
    resource_tracker.ensure_running()
    pipe, theirs = context.Pipe()
    process = context.Process(target=run_driver, args=(settings, theirs), daemon=True)
    # It inherits the mask: Ctrl-C in a terminal goes to the whole group, and only the parent is to act on it.
    with signals_blocked():
        process.start()
    theirs.close()
    finished = False
    try:
        yield _Process(process, pipe)
        finished = True
    finally:
        pipe.close()
        if finished:
            process.join(STOP_GRACE_S)
        if process.is_alive():
            process.kill()
        process.join()


def _wait_until_connected(settings: ScenarioSettings, driver: _Process, interrupts: Interrupts) -> None:
    if interrupts.alarm in wait([driver.pipe, interrupts.alarm]):
        raise KeyboardInterrupt
    failure = driver.receive()
    if isinstance(failure, Failure):
        raise unreachable(settings.workload.endpoint, failure)


def _follow(
    settings: ScenarioSettings, driver: _Process, interrupts: Interrupts, watch: Watch | None
) -> tuple[Report, bool]:
    """The last report, and whether Ctrl-C was the reason that it is."""
    report, end_at = Report(Counts()), None
    while True:
        left = None if end_at is None else max(0.0, end_at - perf_counter())
        ready = wait([driver.pipe, interrupts.alarm], timeout=left)
        if interrupts.alarm in ready or not ready:
            driver.process.kill()
            return report, bool(ready)
        received = driver.receive()
        assert isinstance(received, Report)
        report = received
        if report.error is not None:
            raise VisionserveError(report.error)
        if report.done:
            return report, False
        if report.gave_up and end_at is None and settings.timed:
            end_at = perf_counter() + GIVE_UP_S
        if watch is not None:
            watch(report.counts)


def _prepare(log_dir: Path) -> None:
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--mlperf-log {log_dir} cannot be made: {(error.strerror or str(error)).lower()}.") from error
    if not os.access(log_dir, os.W_OK):
        raise UsageError(f"--mlperf-log {log_dir} is not a folder that you may write to.")
