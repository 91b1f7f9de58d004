import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from time import perf_counter, perf_counter_ns, process_time
from typing import Any

from visionserve.bench.load.interrupts import Interrupts, signals_blocked
from visionserve.bench.load.outcome import Outcome
from visionserve.bench.load.pacing import NS_PER_S
from visionserve.bench.load.plan import Plan
from visionserve.bench.load.worker import Interval, run_worker
from visionserve.bench.transport.client import Client
from visionserve.bench.transport.endpoint import Endpoint
from visionserve.bench.transport.failures import Failure
from visionserve.errors import UsageError, VisionserveError

# Time for the start to reach every worker, so that all begin in the same moment.
START_MARGIN_NS = 20_000_000
STOP_GRACE_S = 5.0


def check_reachable(endpoint: Endpoint, timeout_s: float) -> None:
    """Opens one connection and closes it. Raises UsageError when that fails."""
    client = Client(endpoint, timeout_s)
    failure = client.connect()
    client.close()
    if failure is not None:
        raise unreachable(endpoint, failure)


# Is shown what was measured so far whenever a worker reports, which each does every second; True ends the run.
Watch = Callable[[Outcome], bool]


def run_load(plan: Plan, interrupts: Interrupts, watch: Watch | None = None) -> Outcome:
    """Runs `plan` to its end, or to the first Ctrl-C, or until `watch` says so.

    Raises UsageError when not every client can connect before any load is sent, and KeyboardInterrupt when
    interrupted before then.
    """
    with _workers(plan) as workers:
        _wait_until_connected(plan, workers, interrupts)
        start_ns = perf_counter_ns() + START_MARGIN_NS
        for worker in workers:
            worker.tell(start_ns)
        outcome = Outcome(measured_from_ns=start_ns + round(plan.pacer.warmup_s * NS_PER_S))
        _collect(outcome, workers, interrupts, watch)
        return outcome


@dataclass
class _Worker:
    number: int
    process: SpawnProcess
    pipe: Connection

    def tell(self, message: Any) -> None:
        with suppress(ConnectionError):  # it died: the next receive says so
            self.pipe.send(message)

    def receive(self) -> Any:
        """The next message. Raises EOFError when the process is gone."""
        try:
            return self.pipe.recv()
        except ConnectionError as error:
            raise EOFError from error

    def death(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"worker {self.number + 1} died ({how})"


@contextmanager
def _workers(plan: Plan) -> Iterator[list[_Worker]]:
    """Starts the processes, by spawn: a fork would copy the parent's threads' locks. None outlives the block."""
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    # Started on demand, it would unblock the signals that the workers are to inherit blocked.
    resource_tracker.ensure_running()
    try:
        # They inherit the mask: Ctrl-C in a terminal goes to the whole group, and only the parent is to act on it.
        with signals_blocked():
            for number in range(plan.processes):
                pipe, theirs = context.Pipe()
                process = context.Process(target=run_worker, args=(plan, number, theirs), daemon=True)
                process.start()
                theirs.close()
                workers.append(_Worker(number, process, pipe))
        yield workers
    except BaseException:
        for worker in workers:
            worker.process.kill()
        raise
    finally:
        for worker in workers:
            worker.pipe.close()
        for worker in workers:
            worker.process.join(STOP_GRACE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _wait_until_connected(plan: Plan, workers: list[_Worker], interrupts: Interrupts) -> None:
    waiting: dict[Any, _Worker] = {worker.pipe: worker for worker in workers}
    while waiting:
        for ready in wait([*waiting, interrupts.alarm]):
            if ready is interrupts.alarm:
                raise KeyboardInterrupt
            worker = waiting.pop(ready)
            try:
                failure = worker.receive()
            except EOFError:
                raise VisionserveError(f"{worker.death()} before any load was sent.") from None
            if failure is not None:
                raise unreachable(plan.endpoint, failure)


def _collect(outcome: Outcome, workers: list[_Worker], interrupts: Interrupts, watch: Watch | None) -> None:
    cpu_s = process_time()
    waiting: dict[Any, _Worker] = {worker.pipe: worker for worker in workers}
    give_up_at: float | None = None
    while waiting:
        left = None if give_up_at is None else max(0.0, give_up_at - perf_counter())
        ready = wait([*waiting, interrupts.alarm], timeout=left)
        if interrupts.alarm in ready:
            interrupts.take()
            # The second Ctrl-C waits no longer.
            give_up_at = perf_counter() + (0.0 if outcome.interrupted else STOP_GRACE_S)
            outcome.interrupted = True
            _stop(waiting)
        elif not ready:
            for worker in waiting.values():
                worker.process.kill()
        for pipe in [pipe for pipe in ready if pipe in waiting]:
            worker = waiting[pipe]
            try:
                interval: Interval = worker.receive()
            except EOFError:
                outcome.lost_workers.append(worker.death())
                del waiting[pipe]
                continue
            outcome.add(worker.number, interval)
            if interval.done:
                del waiting[pipe]
            elif watch is not None and give_up_at is None and watch(outcome):
                outcome.cut_short = True
                give_up_at = perf_counter() + STOP_GRACE_S
                _stop(waiting)
    outcome.parent_cpu_s = process_time() - cpu_s


def _stop(waiting: dict[Any, _Worker]) -> None:
    for worker in waiting.values():
        worker.tell(None)


def unreachable(endpoint: Endpoint, failure: Failure) -> UsageError:
    reason = failure.kind if failure.detail in ("", failure.kind) else f"{failure.kind}: {failure.detail}"
    return UsageError(f"ENDPOINT {endpoint} cannot be reached ({reason}); is the API deployed there?")
