import select
from collections import deque
from dataclasses import dataclass
from itertools import count
from selectors import DefaultSelector
from time import perf_counter_ns

from visionserve.bench.load.pacing import NS_PER_S, Schedule
from visionserve.bench.load.plan import Plan
from visionserve.bench.load.results import Result, Tally
from visionserve.bench.load.silence import Silence
from visionserve.bench.transport import failures
from visionserve.bench.transport.answers import Answer
from visionserve.bench.transport.connection import Connection, State
from visionserve.bench.transport.failures import Failure

# Nothing listens: without a pause a client would spin and take the CPU that the server needs to come back.
RECONNECT_PAUSE_S = 0.1
# Looking for requests that ran out of time costs more than a little being late does.
TIMEOUT_CHECKS = 20
TIMEOUT_CHECK_S = 0.05


@dataclass
class _Sent:
    """A request in flight, or one that has the connection and waits for its time."""

    due_ns: int
    sent_ns: int
    size: int
    waited: bool
    in_warmup: bool


class _Client:
    """A connection with the request that it carries. In a closed loop it has a schedule of its own."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.schedule: Schedule | None = None
        self.sent: _Sent | None = None


class Attack:
    """The load of one worker. One thread does it all: threads would make each other's answers wait for the
    interpreter lock, and that wait would pass for the server's.

    Requests are due from `start_ns` (perf_counter_ns) on. In an open loop the connection that was idle for the
    shortest time is the next, so that no more are open than the load needs.
    """

    def __init__(self, plan: Plan, worker: int) -> None:
        self.gave_up = False
        self._workload, self._pacer, self._worker, self._processes = plan.workload, plan.pacer, worker, plan.processes
        self._timeout_ns = round(plan.timeout_s * NS_PER_S)
        self._timeout_s = plan.timeout_s
        self._warmup_ns = round(plan.pacer.warmup_s * NS_PER_S)
        self._requests = plan.workload.requests
        self._selector = DefaultSelector()
        numbers = plan.clients_of(worker)
        self._clients = {
            client.connection: client
            for client in (_Client(Connection(plan.endpoint, self._selector)) for _ in numbers)
        }
        self._numbers = count(numbers.start)
        self._idle = list(self._clients.values())
        self._resting: deque[tuple[int, _Client]] = deque()
        self._busy: dict[_Client, None] = {}
        self._freed_ns = 0
        self._tally = Tally()
        self._arrivals: Schedule | None = None
        self._due_ns: int | None = None

    @property
    def connections(self) -> int:
        return sum(connection.opened for connection in self._clients)

    def take(self) -> Tally:
        """What was measured since the last time."""
        taken, self._tally = self._tally, Tally()
        return taken

    def connect(self) -> Failure | None:
        """Opens the connections ahead of the first request, in an open loop only one of them; says why it could not."""
        deadline_ns = perf_counter_ns() + self._timeout_ns
        opening = list(self._clients)[: 1 if self._pacer.open_loop else None]
        try:
            for connection in opening:
                connection.open()
            while any(connection.state is not State.IDLE for connection in opening):
                left_ns = deadline_ns - perf_counter_ns()
                if left_ns <= 0:
                    raise TimeoutError("no connection within the time-out")
                for key, _ in self._selector.select(left_ns / NS_PER_S):
                    key.data.advance()
        except failures.TRANSPORT_ERRORS as error:
            return failures.of_error(error)
        return None

    def start(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._silence = Silence(self._pacer, self._timeout_s, start_ns)
        self._check_ns = start_ns
        if self._pacer.open_loop:
            self._arrivals = self._schedule()
            self._look_ahead()
        else:
            for client in self._clients.values():
                client.schedule = self._schedule()
                self._resting.append((start_ns, client))

    def run(self, until_ns: int) -> bool:
        """Sends and receives until `until_ns`, or until all is done; False when it is."""
        while (now_ns := perf_counter_ns()) < until_ns:
            self._send_what_is_due(now_ns)
            if not self._busy and not self._resting and (self._due_ns is None or self.gave_up):
                return False
            if now_ns >= self._check_ns:
                self._end_those_out_of_time(now_ns)
            self._wait(until_ns)
        return True

    def stop(self) -> None:
        """Abandons what is in flight, and sends no more."""
        self._tally.abandoned += len(self._busy)
        for connection in self._clients:
            connection.close()
        self._selector.close()

    def _schedule(self) -> Schedule:
        return self._pacer.schedule(self._worker, self._processes)

    def _look_ahead(self) -> None:
        assert self._arrivals is not None
        due_ns = self._arrivals.next_due_ns(0)
        self._due_ns = None if due_ns is None else self._start_ns + due_ns

    def _send_what_is_due(self, now_ns: int) -> None:
        while self._due_ns is not None and self._due_ns <= now_ns and self._idle and not self.gave_up:
            due_ns = self._due_ns
            self._look_ahead()
            self._send(self._idle.pop(), due_ns, waited=due_ns < self._freed_ns)
        while self._resting and self._resting[0][0] <= now_ns:
            _, client = self._resting.popleft()
            self._send_next(client)

    def _send_next(self, client: _Client) -> None:
        """The next request of a client in a closed loop."""
        assert client.schedule is not None
        now_ns = perf_counter_ns()
        due_ns = None if self.gave_up else client.schedule.next_due_ns(now_ns - self._start_ns)
        if due_ns is not None:
            self._send(client, self._start_ns + due_ns, waited=False)

    def _send(self, client: _Client, due_ns: int, waited: bool) -> None:
        request = self._requests[next(self._numbers) % len(self._requests)]
        in_warmup = due_ns - self._start_ns < self._warmup_ns
        sent_ns = perf_counter_ns() if self._pacer.open_loop else due_ns
        client.sent = _Sent(due_ns, sent_ns, len(request), waited, in_warmup)
        self._busy[client] = None
        try:
            client.connection.post(request)
        except failures.TRANSPORT_ERRORS as error:
            self._fail(client, error)

    def _wait(self, until_ns: int) -> None:
        next_ns = min(until_ns, self._check_ns)
        if self._resting:
            next_ns = min(next_ns, self._resting[0][0])
        if self._due_ns is not None and self._idle:
            next_ns = min(next_ns, self._due_ns)
        left_s = max(0, next_ns - perf_counter_ns()) / NS_PER_S
        if self._pacer.open_loop and left_s:
            # epoll counts in milliseconds, select in microseconds, and a request is to be sent when it is due.
            select.select([self._selector], [], [], left_s)
            left_s = 0
        for key, _ in self._selector.select(left_s):
            client = self._clients[key.data]
            try:
                answer = client.connection.advance()
            except failures.TRANSPORT_ERRORS as error:
                self._fail(client, error)
            else:
                if answer is not None:
                    self._end(client, answer)

    def _fail(self, client: _Client, error: Exception) -> None:
        client.connection.close()
        if client.sent is not None:
            self._end(client, Answer(0, b"", failures.of_error(error)))

    def _end(self, client: _Client, answer: Answer) -> None:
        ended_ns = perf_counter_ns()
        sent = client.sent
        assert sent is not None
        client.sent = None
        del self._busy[client]
        failure = answer.failure or self._workload.judge(answer)
        if sent.in_warmup:
            self._tally.add_warmup(failure is not None)
        else:
            size, images = sent.size if answer.failure is None else 0, self._workload.batch_size
            self._tally.add(
                Result(sent.due_ns, sent.sent_ns, ended_ns, images, failure, sent.waited, size, answer.received)
            )
        if answer.failure is None:
            self._silence.end(ended_ns)
        elif self._silence.lasts(ended_ns):
            self.gave_up = True
        if self._pacer.open_loop:
            if not self._idle:
                self._freed_ns = ended_ns
            self._idle.append(client)
        elif answer.failure is not None and answer.failure.kind in (failures.REFUSED, failures.UNREACHABLE):
            self._resting.append((ended_ns + round(RECONNECT_PAUSE_S * NS_PER_S), client))
        else:
            self._send_next(client)

    def _end_those_out_of_time(self, now_ns: int) -> None:
        for client in [client for client in self._busy if self._is_out_of_time(client, now_ns)]:
            self._fail(client, TimeoutError("no complete answer within the time-out"))
        check_s = min(TIMEOUT_CHECK_S, self._timeout_s / TIMEOUT_CHECKS)
        self._check_ns = now_ns + round(check_s * NS_PER_S)

    def _is_out_of_time(self, client: _Client, now_ns: int) -> bool:
        return client.sent is not None and now_ns - client.sent.sent_ns >= self._timeout_ns
