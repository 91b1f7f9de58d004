import socket
from contextlib import suppress
from selectors import DefaultSelector
from time import perf_counter

from visionserve.bench.transport import failures
from visionserve.bench.transport.answers import Answer
from visionserve.bench.transport.connection import Connection, State
from visionserve.bench.transport.endpoint import Endpoint
from visionserve.bench.transport.failures import Failure


class Client:
    """One connection that is waited for: for callers with a thread to spare."""

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._selector = DefaultSelector()
        self._connection = Connection(endpoint, self._selector)
        self._alarm, self._bell = socket.socketpair()
        self._selector.register(self._alarm, 1)
        self._aborted = False

    def connect(self) -> Failure | None:
        """Opens the connection ahead of the first request, and says why it could not."""
        try:
            self._connection.open()
            deadline = perf_counter() + self._timeout_s
            while self._connection.state is not State.IDLE:
                self._wait(deadline)
        except failures.TRANSPORT_ERRORS as error:
            self._connection.close()
            return failures.of_error(error)
        return None

    def post(self, request: bytes) -> Answer:
        """Sends the request and waits for the whole answer, at most `timeout_s` seconds, connecting included."""
        deadline = perf_counter() + self._timeout_s
        answer = None
        try:
            self._connection.drop_if_ended()
            self._connection.post(request)
            while answer is None:
                answer = self._wait(deadline)
        except failures.TRANSPORT_ERRORS as error:
            self._connection.close()
            failure = Failure(failures.ABANDONED, "") if self._aborted else failures.of_error(error)
            return Answer(0, b"", failure)
        return answer

    def abort(self) -> None:
        """Ends the request in flight, and every later one, from another thread; they come back as abandoned."""
        self._aborted = True
        with suppress(OSError):  # closed by its own thread in this very moment
            self._bell.send(b"!")

    def close(self) -> None:
        self._connection.close()
        self._selector.close()
        self._alarm.close()
        self._bell.close()

    def _wait(self, deadline: float) -> Answer | None:
        left = deadline - perf_counter()
        ready = self._selector.select(left) if left > 0 else []
        if self._aborted:
            raise ConnectionAbortedError("the run was stopped")
        if not ready:
            raise TimeoutError("no complete answer within the time-out")
        return self._connection.advance()
