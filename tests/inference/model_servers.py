import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.conftest import REPOSITORY, free_port, post

COMMAND = [sys.executable, "-m", "visionserve.cli", "model-server"]
PREDICT = "/v1/models/resnet50:predict"


@dataclass
class ModelServer:
    process: subprocess.Popen[str]
    grpc: str
    rest: str
    line: str

    def url(self, path: str) -> str:
        return f"http://{self.rest}{path}"

    def connect(self) -> socket.socket:
        host, port = self.rest.split(":")
        return socket.create_connection((host, int(port)), timeout=60)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def model_server(*options: object) -> Iterator[ModelServer]:
    """The `visionserve model-server` command on free ports; it must end well on SIGTERM."""
    ports = free_port(), free_port()
    command = [*COMMAND, "--port", ports[0], "--rest-port", ports[1], *options]
    process = subprocess.Popen([str(word) for word in command], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        try:
            line = process.stdout.readline()
            assert line, "it ended before it was ready"
            server = ModelServer(process, f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}", line)
            yield server
            assert process.returncode is not None or server.stop() == 0
        finally:
            process.kill()


def request_head(path: str, length: int, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {length}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def read_answer(connection: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def ask(server: ModelServer, document: object, path: str = PREDICT) -> Any:
    """The JSON of an answer that must be 200."""
    answer = post(server.url(path), json=document)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(server: ModelServer, body: object, path: str = PREDICT) -> tuple[int, str]:
    """Status and sentence of an answer that must be an error; body: bytes or str as they are, else as JSON."""
    data = body if isinstance(body, (bytes, str)) else json.dumps(body)
    answer = post(server.url(path), data=data)
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    return answer.status_code, answer.json()["error"]
