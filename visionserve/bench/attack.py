from itertools import count
from threading import Event
from time import perf_counter_ns

from visionserve.bench import failures
from visionserve.bench.client import Client
from visionserve.bench.pacing import NS_PER_S, Pacer
from visionserve.bench.results import Result, Tally
from visionserve.bench.workload import ImageBatch

# A client whose requests got no answer at all for so long and so often takes the server for gone.
GIVE_UP_AFTER_S = 5.0
GIVE_UP_AFTER_REQUESTS = 3
# Nothing listens: without a pause a client would spin and take the CPU that the server needs to come back.
RECONNECT_PAUSE_S = 0.1


def attack(*, client: Client, workload: ImageBatch, pacer: Pacer, start_ns: int, stop: Event, tally: Tally) -> None:
    """Sends one client's requests as `pacer` says from `start_ns` (perf_counter_ns) on, and tallies each result."""
    unanswered = 0
    last_answer_ns = start_ns
    for number in count():
        due = pacer.due_ns(number, max(0, perf_counter_ns() - start_ns))
        if due is None:
            break
        wait_ns = start_ns + due - perf_counter_ns()
        if stop.wait(wait_ns / NS_PER_S) if wait_ns > 0 else stop.is_set():
            break
        sent_ns = perf_counter_ns()
        answer = client.post()
        ended_ns = perf_counter_ns()
        failure = answer.failure or workload.judge(answer.status, answer.body)
        tally.add(Result(start_ns + due, sent_ns, ended_ns, workload.batch_size, failure))
        if answer.failure is None:
            unanswered, last_answer_ns = 0, ended_ns
            continue
        unanswered += 1
        silent_s = (ended_ns - last_answer_ns) / NS_PER_S
        if unanswered >= GIVE_UP_AFTER_REQUESTS and silent_s >= GIVE_UP_AFTER_S:
            tally.clients_given_up += 1
            break
        if answer.failure.kind in (failures.REFUSED, failures.UNREACHABLE):
            stop.wait(RECONNECT_PAUSE_S)
    client.close()
    tally.connections += client.connections
