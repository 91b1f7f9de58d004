import errno
import os
import socket
import ssl
from enum import Enum, auto
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector

from visionserve.bench.transport.answers import Answer, AnswerReader
from visionserve.bench.transport.endpoint import Address, Endpoint

RECEIVE_BYTES = 65536


class State(Enum):
    CLOSED = auto()
    CONNECTING = auto()
    HANDSHAKING = auto()
    IDLE = auto()
    BUSY = auto()


class Connection:
    """One keep-alive connection that posts requests one after the other, and never waits: its owner does, at
    `selector`, and calls `advance` when it is ready.

    Nothing is retried and no redirect is followed: what the server did is what is counted. `post` and `advance`
    raise failures.TRANSPORT_ERRORS, after which it must be closed.
    """

    def __init__(self, endpoint: Endpoint, selector: BaseSelector) -> None:
        self.opened = 0
        self.state = State.CLOSED
        self._endpoint = endpoint
        self._selector = selector
        self._socket: socket.socket | None = None
        self._untried: list[Address] = []
        self._events = 0
        self._unsent = memoryview(b"")
        self._awaited = False
        self._writable = True
        self._reader = AnswerReader()

    def open(self) -> None:
        """Begins to connect; `advance` goes on with it. The host's addresses are tried one after the other."""
        self._untried = self._endpoint.addresses()
        self._connect()

    def post(self, request: bytes) -> None:
        """Begins to send a request, over a new connection when none is open; `advance` returns its answer."""
        self._unsent, self._awaited, self._writable = memoryview(request), True, True
        self._reader.begin()
        if self.state is State.CLOSED:
            self.open()
        elif self.state is State.IDLE:
            self.state = State.BUSY
            self._send()

    def advance(self) -> Answer | None:
        """Does what can be done at once; the answer, when it is complete."""
        if self.state is State.CONNECTING:
            self._connected()
        if self.state is State.HANDSHAKING:
            self._shake_hands()
        if self.state is State.IDLE:
            self.drop_if_ended()
        elif self.state is State.BUSY:
            if self._unsent:
                self._send()
            return self._receive()
        return None

    def drop_if_ended(self) -> None:
        """Closes an idle connection that the server has closed: the next request opens another one."""
        if self.state is not State.IDLE:
            return
        try:
            unasked = self._open_socket().recv(RECEIVE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        if unasked:
            raise ConnectionResetError("the server sent what was not asked for")
        self.close()

    def close(self) -> None:
        self._drop_socket()
        self.state, self._awaited = State.CLOSED, False
        self._reader = AnswerReader()

    def _drop_socket(self) -> None:
        if self._socket is not None:
            if self._events:
                self._selector.unregister(self._socket)
            self._socket.close()
        self._socket, self._events = None, 0

    def _connect(self) -> None:
        (family, address), *self._untried = self._untried
        sock = socket.socket(family, socket.SOCK_STREAM)
        self._socket, self._events, self.state = sock, 0, State.CONNECTING
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(address)
        if code in (0, errno.EINPROGRESS):
            self._wait_for(EVENT_WRITE)
        else:
            self._connect_elsewhere(code)

    def _connect_elsewhere(self, code: int) -> None:
        if not self._untried:
            raise OSError(code, os.strerror(code))
        self._drop_socket()
        self._connect()

    def _connected(self) -> None:
        sock = self._open_socket()
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._connect_elsewhere(code)
            return
        context = self._endpoint.tls_context()
        if context is None:
            self._ready()
            return
        self._selector.unregister(sock)
        self._events = 0
        self._socket = context.wrap_socket(sock, do_handshake_on_connect=False, server_hostname=self._endpoint.host)
        self.state = State.HANDSHAKING

    def _shake_hands(self) -> None:
        sock = self._open_socket()
        assert isinstance(sock, ssl.SSLSocket)
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self._wait_for(EVENT_READ)
        except ssl.SSLWantWriteError:
            self._wait_for(EVENT_WRITE)
        else:
            self._ready()

    def _ready(self) -> None:
        self.opened += 1
        self.state = State.BUSY if self._awaited else State.IDLE
        self._wait_for(EVENT_READ)

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._open_socket().send(self._unsent) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._wait_for(EVENT_READ | EVENT_WRITE)
        except (BrokenPipeError, ConnectionResetError):
            # A server may answer before it has read everything (413) and close: its answer counts, if there is one.
            self._unsent, self._writable = memoryview(b""), False
            self._wait_for(EVENT_READ)
        else:
            self._wait_for(EVENT_READ)

    def _receive(self) -> Answer | None:
        reader = self._reader
        while not reader.complete:
            try:
                data = self._open_socket().recv(RECEIVE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return None
            reader.feed(data)
        self.state, self._awaited = State.IDLE, False
        answer = reader.answer()
        if self._unsent or not (self._writable and reader.keep_alive):
            self.close()
        return answer

    def _wait_for(self, events: int) -> None:
        if events == self._events:
            return
        if self._events:
            self._selector.modify(self._open_socket(), events, self)
        else:
            self._selector.register(self._open_socket(), events, self)
        self._events = events

    def _open_socket(self) -> socket.socket:
        assert self._socket is not None
        return self._socket
