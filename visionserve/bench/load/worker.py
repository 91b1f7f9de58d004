import gc
import os
import resource
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import perf_counter_ns, process_time

from visionserve.bench.load.attack import Attack
from visionserve.bench.load.pacing import NS_PER_S
from visionserve.bench.load.plan import Plan
from visionserve.bench.load.results import Tally

POLL_NS = NS_PER_S // 10


@dataclass
class Interval:
    """What a worker measured since its last message. `second` counts from the start of measuring, from 0.

    `done` marks the last one, which tells how the worker ended. `cpu_s` is of the whole process since that start.
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

    It ends when the parent does: the pipe is closed then.
    """
    try:
        _run(plan, number, pipe)
    except (EOFError, ConnectionError):
        os._exit(1)


def _run(plan: Plan, number: int, pipe: Connection) -> None:
    _allow_many_files()
    attack = Attack(plan, number)
    pipe.send(attack.connect())
    # What was made until now stays: collecting garbage need not look at it in the middle of a measurement.
    gc.freeze()
    start_ns = pipe.recv()
    if start_ns is None:
        return
    attack.start(start_ns)
    measure_ns = start_ns + round(plan.pacer.warmup_s * NS_PER_S)
    second, cpu_s = 0, process_time()
    while attack.run(_next_ns(measure_ns, second)) and not pipe.poll():
        now_ns = perf_counter_ns()
        if now_ns < measure_ns:
            cpu_s = process_time()
        reached = (now_ns - measure_ns) // NS_PER_S
        if reached > second:
            pipe.send(Interval(second, attack.take(), process_time() - cpu_s))
            second = reached
    attack.stop()
    cpu_s = process_time() - cpu_s
    pipe.send(Interval(second, attack.take(), cpu_s, done=True, connections=attack.connections, gave_up=attack.gave_up))


def _next_ns(measure_ns: int, second: int) -> int:
    """When to look up from the load: for the end of the second, of the warm-up, or for a word of the parent."""
    now_ns = perf_counter_ns()
    return min(now_ns + POLL_NS, measure_ns if now_ns < measure_ns else measure_ns + (second + 1) * NS_PER_S)


def _allow_many_files() -> None:
    """As many connections as the system lets a process have, not as many as a shell does by default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
