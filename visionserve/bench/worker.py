import os
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from multiprocessing.connection import Connection
from threading import Event
from time import process_time

from visionserve.bench.attack import attack
from visionserve.bench.client import Client
from visionserve.bench.plan import Plan
from visionserve.bench.results import Tally

POLL_S = 0.1
ABORT_S = 1.0


def run_worker(plan: Plan, pipe: Connection) -> None:
    """One worker process. Over `pipe` it sends None once every client is connected (or the Failure of the first that
    is not), receives the start time (perf_counter_ns) and then perhaps None to stop early, and sends its Tally.

    It ends when the parent does: the pipe is closed then.
    """
    try:
        _run(plan, pipe)
    except (EOFError, ConnectionError):
        os._exit(1)


def _run(plan: Plan, pipe: Connection) -> None:
    request = plan.request()
    clients = [Client(plan.endpoint, request, plan.timeout_s) for _ in range(plan.threads)]
    pool = ThreadPoolExecutor(plan.threads)
    failed = [failure for failure in pool.map(Client.connect, clients) if failure is not None]
    pipe.send(failed[0] if failed else None)
    start_ns = pipe.recv()
    if start_ns is None:
        return
    tallies = [Tally() for _ in clients]
    stop, cpu_s = Event(), process_time()
    running = [
        pool.submit(
            attack,
            client=client,
            workload=plan.workload,
            pacer=plan.pacer,
            start_ns=start_ns,
            stop=stop,
            tally=tally,
        )
        for client, tally in zip(clients, tallies, strict=True)
    ]
    aborted = not _ended(running, pipe)
    if aborted:
        stop.set()
        for client in clients:
            client.abort()
        wait(running, timeout=ABORT_S)
    for future in running:
        if future.done():
            future.result()
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    total.cpu_s = process_time() - cpu_s
    pipe.send(total)
    if aborted:
        os._exit(0)  # a client that is still connecting must not hold the process until its time-out


def _ended(running: list[Future[None]], pipe: Connection) -> bool:
    """Waits for the clients; False when the parent says to stop before they are done."""
    while wait(running, timeout=POLL_S, return_when=FIRST_EXCEPTION).not_done:
        if any(future.done() and future.exception() for future in running):
            return False
        if pipe.poll():
            pipe.recv()
            return False
    return True
