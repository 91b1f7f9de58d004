import heapq
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from tests.bench.servers import Exchange
from visionserve.bench.figures.document import Run, document
from visionserve.bench.figures.metrics import fold
from visionserve.bench.load.interrupts import Interrupts
from visionserve.bench.load.pacing import ConstantRate, Pacer
from visionserve.bench.load.plan import Plan
from visionserve.bench.load.run import Watch, run_load
from visionserve.bench.transport.endpoint import Endpoint
from visionserve.bench.workload.payloads import payload_format
from visionserve.bench.workload.workload import Workload


def plan_to(url: str, pacer: Pacer | None = None, **options: Any) -> Plan:
    workload = Workload(Endpoint.parse(url), [b"an image"], payload_format("imgs"))
    settings = {"workers": 1, "clients": 64, "timeout_s": 10.0} | options
    return Plan(workload, pacer or ConstantRate(1.0, 1.0), **settings)


@dataclass
class Session:
    """Sends real loads, as the command does."""

    interrupts: Interrupts

    def measure(self, plan: Plan, watch: Watch | None = None) -> Run:
        started = datetime.now(timezone.utc)
        return document(fold(run_load(plan, self.interrupts, watch), plan), plan, started)


@contextmanager
def session() -> Iterator[Session]:
    with Interrupts() as interrupts:
        yield Session(interrupts)


def one_at_a_time(seconds: float) -> Callable[[Exchange], None]:
    """Requests wait for one another, each takes `seconds`: 1 / seconds of them a second are all that it can do."""
    return so_many_at_a_time(1, seconds)


def so_many_at_a_time(number: int, seconds: float) -> Callable[[Exchange], None]:
    lock, free_at = threading.Lock(), [0.0] * number

    def behave(exchange: Exchange) -> None:
        """Books a place on arrival: a server that waited for each turn would be slower on a busy machine."""
        with lock:
            ends = max(time.monotonic(), free_at[0]) + seconds
            heapq.heapreplace(free_at, ends)
        time.sleep(max(0.0, ends - time.monotonic()))
        exchange.answer()

    return behave
