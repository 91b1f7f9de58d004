import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.load import LoadError, closed_loop, fixed_count, open_loop

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="Debian's wrk is not installed")
needs_h2load = pytest.mark.skipif(shutil.which("h2load") is None, reason="Debian's nghttp2-client is not installed")


class Counting(ThreadingHTTPServer):
    """Answers 200, but every `refuse_every`-th request 503; remembers what was posted."""

    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.refuse_every = 0
        self.requests: list[tuple[str | None, bytes]] = []
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Semaphore(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Counting

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.server.lock:
            self.server.requests.append((self.headers["content-type"], body))
            number = len(self.server.requests)
        self.server.arrived.release()
        self.server.gate.wait(60)
        refused = self.server.refuse_every and number % self.server.refuse_every == 0
        self.send_response(503 if refused else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, format: str, *arguments: object) -> None:
        del format, arguments


@pytest.fixture
def server() -> Iterator[Counting]:
    counting = Counting()
    thread = threading.Thread(target=counting.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield counting
    counting.gate.set()
    counting.shutdown()
    thread.join()
    counting.server_close()


@pytest.fixture
def body(tmp_path: Path) -> Path:
    file = tmp_path / "body.json"
    file.write_text('{"img": "aGVsbG8="}')
    return file


@needs_wrk
def test_a_closed_loop_counts_the_answers_that_the_server_gave(server, body):
    answers = closed_loop(server.url, body, clients=2, seconds=1)
    # wrk leaves at most one request per client unanswered when the turn ends.
    assert 0 <= len(server.requests) - answers.count <= 2
    assert answers.seconds > 0
    assert set(server.requests) == {("application/json", body.read_bytes())}


@needs_wrk
def test_a_closed_loop_with_one_refusal_counts_for_nothing(server, body):
    server.refuse_every = 2
    with pytest.raises(LoadError, match="not 2xx"):
        closed_loop(server.url, body, clients=2, seconds=1)


@needs_h2load
def test_a_fixed_count_gives_a_latency_for_every_request(server, body):
    assert len(fixed_count(server.url, body, clients=4, count=20)) == 20
    assert server.requests == [("application/json", body.read_bytes())] * 20


@needs_h2load
def test_a_fixed_count_with_one_refusal_counts_for_nothing(server, body):
    server.refuse_every = 20
    with pytest.raises(LoadError, match="got 19 2xx answers"):
        fixed_count(server.url, body, clients=4, count=20)


@needs_h2load
def test_an_open_loop_keeps_sending_while_the_server_answers_nothing(server, body):
    server.gate.clear()
    latencies: list[float] = []
    load = threading.Thread(target=lambda: latencies.extend(open_loop(server.url, body, interval_ms=20, seconds=0.4)))
    load.start()
    for _ in range(20):
        assert server.arrived.acquire(timeout=60)
    server.gate.set()
    load.join(60)
    assert len(latencies) == 20


@needs_h2load
def test_a_server_that_is_not_there_counts_for_nothing(server, body):
    server.shutdown()
    server.server_close()
    with pytest.raises(LoadError):
        fixed_count(server.url, body, clients=1, count=1)
