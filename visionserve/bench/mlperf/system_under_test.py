from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from queue import SimpleQueue
from threading import Event, Lock, Thread
from time import perf_counter_ns, sleep
from typing import NamedTuple

from visionserve.bench.load.attack import RECONNECT_PAUSE_S
from visionserve.bench.load.pacing import ConstantRate, Pacer, UntilDeadline
from visionserve.bench.load.silence import Silence
from visionserve.bench.mlperf.counts import Counts
from visionserve.bench.mlperf.sample_library import SampleLibrary
from visionserve.bench.mlperf.settings import Scenario, ScenarioSettings
from visionserve.bench.transport import failures
from visionserve.bench.transport.answers import Answer
from visionserve.bench.transport.client import Client
from visionserve.bench.transport.failures import Failure
from visionserve.bench.workload.payloads import WrongAnswer, labels, parsed, wrong_answer

TOP = 5
# LoadGen asks again at once until its time is over, and would take a core to count what is not sent.
IDLE_S = 0.01


class Sample(NamedTuple):
    """The number of an image that LoadGen wants answered; `ticket` is what LoadGen calls the response's id."""

    ticket: int
    image: int


# Gives LoadGen the tickets of a request that ended, and the labels answered for each; None where it failed.
Complete = Callable[[Sequence[int], list[list[str]] | None], None]


class SystemUnderTest:
    """What LoadGen drives: the endpoint, as far as it can be seen through `clients` connections.

    Every sample is completed, so that LoadGen ends: a failed one with no data. LoadGen cannot be told of failures, so
    they are counted here. Once nothing answers any more, nothing is sent any more.
    """

    def __init__(self, settings: ScenarioSettings, library: SampleLibrary, complete: Complete) -> None:
        self.answers: dict[int, list[str]] = {}
        self.gave_up = Event()
        self._settings, self._library, self._complete = settings, library, complete
        self._clients = [Client(settings.workload.endpoint, settings.timeout_s) for _ in range(settings.clients)]
        self._queue: SimpleQueue[list[Sample] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._counts, self._lock, self._outstanding = Counts(), Lock(), 0
        self._silence = Silence(_pacer(settings), settings.timeout_s, perf_counter_ns())

    def connect(self) -> Failure | None:
        """Opens the connections; Server's are opened as they are needed, but for the first."""
        first = self._clients[:1] if self._settings.scenario is Scenario.SERVER else self._clients
        return next((failure for failure in map(Client.connect, first) if failure is not None), None)

    def start(self, guarded: Callable[[Callable[[Client], None]], Callable[[Client], None]]) -> None:
        """Starts a thread for each client. SingleStream has none: LoadGen's own thread sends its queries."""
        self._silence.end(perf_counter_ns())
        if self._settings.scenario is not Scenario.SINGLE_STREAM:
            self._threads = [
                Thread(target=guarded(self._take_turns), args=(client,), daemon=True) for client in self._clients
            ]
        for thread in self._threads:
            thread.start()

    def issue(self, samples: Sequence[Sample]) -> None:
        """One query. It returns before the answers, but for SingleStream's."""
        with self._lock:
            self._counts.issued += len(samples)
            self._outstanding += len(samples)
            if self._settings.scenario is Scenario.SERVER and self._outstanding > len(self._clients):
                self._counts.waited_for_connection += 1
        if not self._threads:
            self._serve(self._clients[0], list(samples))
            return
        # No more than fit into a request, and no fewer connections than there are.
        size = max(1, min(self._settings.workload.batch_size, -(-len(samples) // len(self._clients))))
        for first in range(0, len(samples), size):
            self._queue.put(list(samples[first : first + size]))

    def counts(self) -> Counts:
        with self._lock:
            return deepcopy(self._counts)

    def stop(self) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        for client in self._clients:
            client.close()

    def _take_turns(self, client: Client) -> None:
        while (samples := self._queue.get()) is not None:
            self._serve(client, samples)

    def _serve(self, client: Client, samples: list[Sample]) -> None:
        if self.gave_up.is_set():
            with self._lock:
                self._counts.not_sent += len(samples)
            if self._settings.timed:
                sleep(IDLE_S)
            self._end(samples, None)
            return
        request = self._library.request([sample.image for sample in samples])
        answer = client.post(request)
        failure, found = self._judge(answer, len(samples))
        with self._lock:
            self._counts.add(len(samples), failure, 0 if answer.failure else len(request), answer.received)
        self._end(samples, found)
        if answer.failure is None:
            self._silence.end(perf_counter_ns())
        elif self._silence.lasts(perf_counter_ns()):
            self._give_up()
        elif failure is not None and failure.kind in (failures.REFUSED, failures.UNREACHABLE):
            self.gave_up.wait(RECONNECT_PAUSE_S)

    def _end(self, samples: list[Sample], found: list[list[str]] | None) -> None:
        with self._lock:
            self._outstanding -= len(samples)
            if self._settings.accuracy:
                for position, sample in enumerate(samples):
                    self.answers.setdefault(sample.image, found[position] if found else [])
        self._complete([sample.ticket for sample in samples], found)

    def _judge(self, answer: Answer, images: int) -> tuple[Failure | None, list[list[str]] | None]:
        """Why the answer is not served, and, where accuracy is measured, each image's five labels."""
        workload = self._settings.workload
        if images != workload.batch_size:
            workload = replace(workload, batch_size=images)
        failure = answer.failure or workload.judge(answer)
        if failure is not None or not self._settings.accuracy:
            return failure, None
        try:
            found = [labels(result)[:TOP] for result in workload.payload.results(parsed(answer.body))]
            if any(len(names) < TOP for names in found):
                raise WrongAnswer(f"{min(map(len, found))} labels instead of {TOP}")
        except WrongAnswer as error:
            return wrong_answer(error, answer.body), None
        return None, found

    def _give_up(self) -> None:
        self.gave_up.set()
        for client in self._clients:
            client.abort()


def _pacer(settings: ScenarioSettings) -> Pacer:
    """How the load comes, as far as it decides how long to wait for a server that does not answer."""
    if settings.scenario is Scenario.SERVER and settings.target_rate is not None:
        return ConstantRate(settings.target_rate, settings.min_seconds or 1.0)
    return UntilDeadline(settings.min_seconds or 1.0)
