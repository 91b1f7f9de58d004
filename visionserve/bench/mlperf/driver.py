import os
import traceback
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from threading import Event, Lock, Thread
from time import process_time
from typing import Any

import orjson

from visionserve.bench.mlperf.counts import Counts
from visionserve.bench.mlperf.sample_library import SampleLibrary
from visionserve.bench.mlperf.settings import Scenario, ScenarioSettings
from visionserve.bench.mlperf.system_under_test import Sample, SystemUnderTest

MODULE = "mlperf_loadgen"
REPORT_S = 1.0
# mlperf.conf names its settings by model.
MODEL = "resnet50"
EMBEDDED_CONFIG = 0
# LoadGen makes all queries ahead, for twice the time: so many take about 300 MB.
MOST_QUERIES = 500_000
FASTEST_S = 0.0002


@dataclass
class Report:
    """What the driver has to say, every second. The last one is `done` (LoadGen ended by itself) or has an `error`.

    `cpu_s` is of this process, LoadGen's own work included. `answers` come with the last one: the labels answered for
    each image, none where it was not served.
    """

    counts: Counts
    cpu_s: float = 0.0
    gave_up: bool = False
    done: bool = False
    error: str | None = None
    answers: dict[int, list[str]] | None = None


def run_driver(settings: ScenarioSettings, pipe: Connection) -> None:
    """The process in which LoadGen runs, as its StartTest blocks in C++ until the test is over.

    Over `pipe` it sends None once it is connected (or the Failure), receives None to start, and sends Reports.
    """
    try:
        _Driver(settings, pipe).run()
    except (EOFError, ConnectionError):
        os._exit(1)


class _Driver:
    def __init__(self, settings: ScenarioSettings, pipe: Connection) -> None:
        self._loadgen: Any = import_module(MODULE)
        self._settings, self._pipe, self._sending = settings, pipe, Lock()
        self._library = SampleLibrary(settings)
        self._system = SystemUnderTest(settings, self._library, self._complete)
        self._over = Event()
        self._cpu_s = 0.0

    def run(self) -> None:
        self._pipe.send(self._system.connect())
        self._pipe.recv()
        self._cpu_s = process_time()
        loadgen, library = self._loadgen, self._library
        reporter = Thread(target=self._guarded(self._report), daemon=True)
        reporter.start()
        self._system.start(self._guarded)
        system = loadgen.ConstructSUT(self._guarded(self._issue), _flush)
        samples = loadgen.ConstructQSL(
            len(library), library.performance_count, self._guarded(library.load), self._guarded(library.unload)
        )
        logs = loadgen.LogSettings()
        logs.enable_trace = False
        logs.log_output.outdir = str(self._settings.log_dir)
        loadgen.StartTestWithLogSettings(system, samples, self._test_settings(), logs)
        loadgen.DestroyQSL(samples)
        loadgen.DestroySUT(system)
        self._over.set()
        reporter.join()
        self._system.stop()
        answers = self._system.answers if self._settings.accuracy else None
        self._send(done=True, answers=answers)

    def _issue(self, samples: Sequence[Any]) -> None:
        self._system.issue([Sample(sample.id, sample.index) for sample in samples])

    def _complete(self, tickets: Sequence[int], found: list[list[str]] | None) -> None:
        datas = [array("B", orjson.dumps(labels)) for labels in found] if found else [array("B")] * len(tickets)
        # LoadGen copies the data before it returns; until then `datas` keeps it where the address says.
        self._loadgen.QuerySamplesComplete(
            [
                self._loadgen.QuerySampleResponse(ticket, *data.buffer_info())
                for ticket, data in zip(tickets, datas, strict=True)
            ]
        )

    def _test_settings(self) -> Any:
        ours, loadgen = self._settings, self._loadgen
        test = loadgen.TestSettings()
        test.FromConfig("", MODEL, ours.scenario.value, EMBEDDED_CONFIG)
        test.scenario = getattr(loadgen.TestScenario, ours.scenario.value)
        test.mode = loadgen.TestMode.AccuracyOnly if ours.accuracy else loadgen.TestMode.PerformanceOnly
        test.performance_sample_count_override = self._library.performance_count
        if ours.min_seconds is not None:
            test.min_duration_ms = round(ours.min_seconds * 1000)
        if ours.min_queries is not None:
            test.min_query_count = ours.min_queries
        if ours.scenario is Scenario.MULTI_STREAM:
            test.multi_stream_samples_per_query = ours.samples_per_query
        if ours.scenario is Scenario.SERVER and ours.latency_limit_ms is not None:
            test.server_target_latency_ns = round(ours.latency_limit_ms * 1e6)
        if ours.target_rate is not None:
            test.server_target_qps = test.offline_expected_qps = ours.target_rate
        shortest_ns = 1e9 * max(FASTEST_S, 2 * test.min_duration_ms / 1000 / MOST_QUERIES)
        test.single_stream_expected_latency_ns = test.multi_stream_expected_latency_ns = round(shortest_ns)
        return test

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """`callback` for LoadGen or a thread: nothing it raises may cross LoadGen's C++ frames, or end a thread that
        LoadGen waits for, so it ends the process."""

        def run(*arguments: Any) -> None:
            returned = False
            try:
                callback(*arguments)
                returned = True
            except ConnectionError:
                os._exit(1)  # the parent is gone
            except OSError as error:
                self._send(error=f"{error.filename or 'An image'} cannot be read any more: {error.strerror or error}.")
                os._exit(1)
            finally:
                if not returned:
                    traceback.print_exc()
                    os._exit(1)

        return run

    def _report(self) -> None:
        while not self._over.wait(REPORT_S):
            if self._pipe.poll():
                os._exit(1)  # it only ever closes its end
            self._send()

    def _send(self, done: bool = False, error: str | None = None, answers: dict[int, list[str]] | None = None) -> None:
        with self._sending:
            cpu_s, gave_up = process_time() - self._cpu_s, self._system.gave_up.is_set()
            self._pipe.send(Report(self._system.counts(), cpu_s, gave_up, done, error, answers))


def _flush() -> None:
    """Nothing is held back to be sent later."""
