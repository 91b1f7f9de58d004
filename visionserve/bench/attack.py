from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from threading import Event
from time import perf_counter_ns

from visionserve.bench import failures
from visionserve.bench.client import Client
from visionserve.bench.failures import Failure
from visionserve.bench.pacing import NS_PER_S, Pacer, Schedule
from visionserve.bench.results import Recorder, Result
from visionserve.bench.workload import Workload

# A worker whose requests got no answer at all for so long and so often takes the server for gone.
GIVE_UP_AFTER_S = 5.0
GIVE_UP_AFTER_REQUESTS = 3
# Nothing listens: without a pause a client would spin and take the CPU that the server needs to come back.
RECONNECT_PAUSE_S = 0.1


class Silence:
    """How long and how often a worker's requests have got no answer, and whether that means that it should give up.

    An open loop goes on for a whole time-out, as its load is what a restarting server will find.
    """

    def __init__(self, pacer: Pacer, timeout_s: float, start_ns: int) -> None:
        self._patience_ns = round((timeout_s if pacer.open_loop else min(timeout_s, GIVE_UP_AFTER_S)) * NS_PER_S)
        self._last_answer_ns = start_ns
        self._unanswered = 0

    def end(self, ended_ns: int) -> None:
        self._unanswered, self._last_answer_ns = 0, ended_ns

    def lasts(self, now_ns: int) -> bool:
        """Counts a request without an answer; True when it was one too many."""
        self._unanswered += 1
        return self._unanswered >= GIVE_UP_AFTER_REQUESTS and now_ns - self._last_answer_ns >= self._patience_ns


@dataclass
class Turns:
    """Who sends when: `clients` take turns at the requests of `schedule`; the one who holds `turn` waits for the next.

    In a closed loop each client has turns of its own. In an open loop all share one, and the client that was idle
    for the shortest time is the next, so that no more connections are open than the load needs.
    """

    schedule: Schedule
    clients: list[Client]
    turn: AbstractContextManager[object]
    open_loop: bool


@dataclass
class Attack:
    """The load of one worker, from `start_ns` (perf_counter_ns) on."""

    workload: Workload
    start_ns: int
    warmup_ns: int
    recorder: Recorder
    silence: Silence
    stop: Event = field(default_factory=Event)
    gave_up: bool = False

    def run(self, turns: Turns, first_request: int) -> None:
        """Sends requests, from number `first_request` of the workload on, until the schedule or the run is over."""
        start_ns, requests = self.start_ns, self.workload.requests
        for number in count(first_request):
            with turns.turn:
                due_ns = turns.schedule.next_due_ns(max(0, perf_counter_ns() - start_ns))
                if due_ns is None:
                    return
                in_warmup = due_ns < self.warmup_ns
                due_ns += start_ns
                wait_ns = due_ns - perf_counter_ns()
                if self.stop.wait(wait_ns / NS_PER_S) if wait_ns > 0 else self.stop.is_set():
                    return
                client = turns.clients.pop()
                waited = turns.open_loop and wait_ns <= 0 and not turns.clients
            sent_ns = perf_counter_ns()
            if not turns.open_loop:
                due_ns = sent_ns
            index = number % len(requests)
            answer = client.post(requests[index])
            ended_ns = perf_counter_ns()
            turns.clients.append(client)
            failure = answer.failure or self.workload.judge(answer)
            if in_warmup:
                self.recorder.add_warmup(failure is not None)
            else:
                images = self.workload.batch_size
                sent, received = (len(requests[index]) if answer.failure is None else 0), answer.received
                self.recorder.add(Result(due_ns, sent_ns, ended_ns, images, failure, waited, sent, received))
            if answer.failure is None:
                self.silence.end(ended_ns)
            elif self._hopeless(answer.failure, ended_ns):
                return

    def _hopeless(self, failure: Failure, now_ns: int) -> bool:
        if self.silence.lasts(now_ns):
            self.gave_up = True
            self.stop.set()
            return True
        if failure.kind in (failures.REFUSED, failures.UNREACHABLE):
            self.stop.wait(RECONNECT_PAUSE_S)
        return False
