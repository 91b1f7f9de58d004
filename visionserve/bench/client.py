import socket
from contextlib import suppress
from time import perf_counter
from typing import NamedTuple

from httptools import HttpResponseParser
from urllib3.connection import HTTPConnection

from visionserve.bench import failures
from visionserve.bench.endpoint import Endpoint
from visionserve.bench.failures import Failure

RECEIVE_BYTES = 65536


class Answer(NamedTuple):
    """What came back for one request: a status and a body, or the failure that stood in the way.

    `location` is where a redirect points to; `received` counts bytes of head and body.
    """

    status: int
    body: bytes
    failure: Failure | None = None
    location: str = ""
    received: int = 0


class Client:
    """One keep-alive connection that posts requests one after the other.

    urllib3 opens the connection (names, TLS), llhttp reads the answers. Requests come as one buffer each: urllib3's
    and http.client's own request paths build and parse headers in Python, which costs several times the CPU.
    Nothing is retried and no redirect is followed: what the server did is what is counted.
    """

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        self.connections = 0
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._connection: HTTPConnection | None = None
        self._reader = _AnswerReader()
        self._aborted = False

    def connect(self) -> Failure | None:
        """Opens the connection ahead of the first request, and says why it could not."""
        try:
            self._open(self._timeout_s)
        except failures.TRANSPORT_ERRORS as error:
            self.close()
            return failures.of_error(error)
        return None

    def post(self, request: bytes) -> Answer:
        """Sends the request and waits for the whole answer, at most `timeout_s` seconds, connecting included."""
        try:
            return self._post(request, perf_counter() + self._timeout_s)
        except failures.TRANSPORT_ERRORS as error:
            self.close()
            failure = Failure(failures.ABANDONED, "") if self._aborted else failures.of_error(error)
            return Answer(0, b"", failure)

    def abort(self) -> None:
        """Ends the request in flight, from another thread; it comes back as abandoned."""
        self._aborted = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):  # closed by its own thread in this very moment
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, timeout_s: float) -> HTTPConnection:
        self._connection = self._endpoint.connection(timeout_s)
        self._connection.connect()
        self._reader = _AnswerReader()
        self.connections += 1
        return self._connection

    def _post(self, request: bytes, deadline: float) -> Answer:
        connection = self._connection
        if connection is None or not connection.is_connected:
            self.close()
            if self._aborted:
                raise ConnectionAbortedError("the run was stopped")
            connection = self._open(_left(deadline))
        sock = connection.sock
        _limit(sock, deadline)
        keep_alive = True
        try:
            sock.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            # A server may answer before it has read everything (413) and close: its answer counts, if there is one.
            keep_alive = False
        reader = self._reader
        reader.begin()
        while not reader.complete:
            _limit(sock, deadline)
            reader.feed(sock.recv(RECEIVE_BYTES))
        if not (keep_alive and reader.keep_alive):
            self.close()
        return Answer(reader.status, reader.body, None, reader.location, reader.received)


class _AnswerReader:
    """Reads the answers of one connection, one after the other. The parser calls the on_... methods back."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        self.complete = False
        self.keep_alive = True
        self.location = ""
        self.received = 0
        self._parts: list[bytes] = []
        self._in_body = False
        self._framed = False

    @property
    def status(self) -> int:
        return self._parser.get_status_code()

    @property
    def body(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def feed(self, data: bytes) -> None:
        if data:
            self.received += len(data)
            self._parser.feed_data(data)
        elif self._in_body and not self._framed:
            # Without a length, the body ends where the connection does (RFC 9112, 6.3).
            self.complete, self.keep_alive = True, False
        else:
            raise ConnectionResetError("the server closed the connection before its answer was complete")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._framed = True
        elif name == b"location":
            self.location = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._in_body = self.status >= 200

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_complete(self) -> None:
        # 100 Continue and its kind come before the answer proper.
        if self.status >= 200:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()


def _limit(sock: socket.socket, deadline: float) -> None:
    """Gives the socket the time that is left, within 5 %: setting it is a system call, too dear for every use."""
    left = _left(deadline)
    if not 0.95 * left <= (sock.gettimeout() or 0) <= 1.05 * left:
        sock.settimeout(left)


def _left(deadline: float) -> float:
    left = deadline - perf_counter()
    if left <= 0:
        raise TimeoutError("no complete answer within the time-out")
    return left
