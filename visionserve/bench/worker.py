import gc
import os
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from threading import Lock
from time import perf_counter_ns, process_time

from visionserve.bench.attack import Attack, Silence, Turns
from visionserve.bench.client import Client
from visionserve.bench.failures import Failure
from visionserve.bench.pacing import NS_PER_S, Schedule
from visionserve.bench.plan import Plan
from visionserve.bench.results import Recorder, Tally

POLL_S = 0.1
ABORT_S = 1.0


@dataclass
class Interval:
    """What a worker measured since its last message. `second` counts from the start of measuring, from 0.

    `done` marks the last one, which tells how the worker ended. `cpu_s` is of the whole process.
    """

    second: int
    tally: Tally
    cpu_s: float
    done: bool = False
    connections: int = 0
    gave_up: bool = False


def run_worker(plan: Plan, number: int, pipe: Connection) -> None:
    """Worker process `number` (from 0). Over `pipe` it sends None once its clients are connected (or the Failure of the
    first that is not), receives the start time (perf_counter_ns) and then perhaps None to stop early, and sends an
    Interval each second; the last one is `done`.

    In an open loop, connections are opened as they are needed. It ends when the parent does: the pipe is closed then.
    """
    try:
        _Worker(plan, number, pipe).run()
    except (EOFError, ConnectionError):
        os._exit(1)


class _Worker:
    def __init__(self, plan: Plan, number: int, pipe: Connection) -> None:
        self._plan, self._number, self._pipe = plan, number, pipe
        self._clients = [Client(plan.endpoint, plan.timeout_s) for _ in plan.clients_of(number)]
        self._pool = ThreadPoolExecutor(len(self._clients))
        self._recorder = Recorder()
        self._second = 0
        self._cpu_s = 0.0

    def run(self) -> None:
        self._plan.workload.requests  # noqa: B018 encoded here, before the start
        self._pipe.send(self._connect())
        gc.freeze()
        start_ns = self._pipe.recv()
        if start_ns is None:
            return
        warmup_ns = round(self._plan.pacer.warmup_s * NS_PER_S)
        attack = Attack(
            self._plan.workload,
            start_ns,
            warmup_ns,
            self._recorder,
            Silence(self._plan.pacer, self._plan.timeout_s, start_ns),
        )
        self._measure_ns = start_ns + warmup_ns
        self._cpu_s = process_time()
        running = self._start(attack)
        aborted = not self._ended(running)
        if aborted:
            attack.stop.set()
            for client in self._clients:
                client.abort()
            wait(running, timeout=ABORT_S)
        for future in running:
            if future.done():
                future.result()
        for client in self._clients:
            client.close()
        self._send(done=True, gave_up=attack.gave_up)
        if aborted:
            os._exit(0)  # a client that is still connecting must not hold the process until its time-out

    def _connect(self) -> Failure | None:
        first = self._clients[:1] if self._plan.pacer.open_loop else self._clients
        return next((failure for failure in self._pool.map(Client.connect, first) if failure is not None), None)

    def _start(self, attack: Attack) -> list[Future[None]]:
        plan, number = self._plan, self._number
        numbers = plan.clients_of(number)

        def schedule() -> Schedule:
            return plan.pacer.schedule(number, plan.processes)

        if plan.pacer.open_loop:
            shared = Turns(schedule(), list(self._clients), Lock(), open_loop=True)
            turns = [shared] * len(numbers)
        else:
            turns = [Turns(schedule(), [client], nullcontext(), open_loop=False) for client in self._clients]
        return [self._pool.submit(attack.run, turn, first) for turn, first in zip(turns, numbers, strict=True)]

    def _ended(self, running: list[Future[None]]) -> bool:
        """Waits for the clients and reports each second; False when the parent says to stop before they are done."""
        measuring = False
        while wait(running, timeout=self._until_report_s(), return_when=FIRST_EXCEPTION).not_done:
            if any(future.done() and future.exception() for future in running):
                return False
            if self._pipe.poll():
                self._pipe.recv()
                return False
            now_ns = perf_counter_ns()
            if not measuring and now_ns >= self._measure_ns:
                measuring, self._cpu_s = True, process_time()
            second = (now_ns - self._measure_ns) // NS_PER_S
            if second > self._second:
                self._send()
                self._second = second
        return True

    def _until_report_s(self) -> float:
        now_ns = perf_counter_ns()
        if now_ns < self._measure_ns:
            return min(POLL_S, (self._measure_ns - now_ns) / NS_PER_S)
        next_ns = self._measure_ns + (self._second + 1) * NS_PER_S
        return min(POLL_S, max(0.0, (next_ns - now_ns) / NS_PER_S))

    def _send(self, done: bool = False, gave_up: bool = False) -> None:
        connections = sum(client.connections for client in self._clients) if done else 0
        cpu_s = process_time() - self._cpu_s
        self._pipe.send(Interval(self._second, self._recorder.take(), cpu_s, done, connections, gave_up))
