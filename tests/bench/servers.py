import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile

LABELS = ["Egyptian_cat", "tiger_cat", "tabby", "lynx", "remote_control"]


@dataclass
class Record:
    """What the server saw: the truth that a report is held against. Times in seconds, of the monotonic clock."""

    bodies: list[bytes] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    peers: set[tuple[str, int]] = field(default_factory=set)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_for(self, requests: int) -> None:
        for _ in range(1200):
            if len(self.bodies) >= requests:
                return
            time.sleep(0.05)
        raise AssertionError(f"only {len(self.bodies)} of {requests} requests arrived within 60 s")


class Exchange(BaseHTTPRequestHandler):
    """One request, as a behavior function sees it: `number` counts from 0 in order of arrival."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    record: Record
    behave: "Behavior"

    def do_POST(self) -> None:
        self.began, self.ended = time.monotonic(), False
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        record = self.record
        with record.lock:
            self.number = len(record.bodies)
            record.bodies.append(self.body)
            record.arrived.append(self.began)
            record.peers.add(self.client_address)
            record.headers.append(dict(self.headers))
            record.paths.append(self.path)
            record.in_flight += 1
            record.most_in_flight = max(record.most_in_flight, record.in_flight)
        try:
            type(self).behave(self)
        finally:
            self.end()
            with record.lock:
                record.in_flight -= 1

    def end(self) -> None:
        """Takes the time, before the answer goes out: once a client has it, it is on record, and not as longer."""
        if not self.ended:
            self.ended = True
            now = time.monotonic()
            with self.record.lock:
                self.record.took.append(now - self.began)
                self.record.ended.append(now)

    def images(self) -> int:
        return len(json.loads(self.body)["imgs"])

    def answer(self, status: int = 200, body: bytes | None = None, **headers: str) -> None:
        if body is None:
            body = json.dumps([LABELS] * self.images()).encode()
        self.end()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """Ends the connection with a TCP reset instead of an answer."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.wfile.close()
        self.rfile.close()
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


Behavior = Callable[[Exchange], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def shutdown_request(self, request: object) -> None:
        if isinstance(request, socket.socket) and request.fileno() >= 0:
            super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is part of what is tested."""


@contextmanager
def serving(behave: Behavior = Exchange.answer, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, Record]]:
    """A real server on a free port of 127.0.0.1 that does as `behave` says; yields its URL and its record."""
    record = Record()
    handler = type("Handler", (Exchange,), {"record": record, "behave": behave})
    server = _Server(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/", record
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def answering_with(*pieces: bytes, pause_s: float = 0, close: bool = False) -> Iterator[str]:
    """A server that answers every request with these very bytes, `pause_s` apart; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            while head := list(takewhile(lambda line: line not in (b"\r\n", b""), reader)):
                length = next(line for line in head if line.lower().startswith(b"content-length:"))
                reader.read(int(length.split(b":")[1]))
                try:
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(pause_s)
                except OSError:
                    return
                if close:
                    return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
