"""A client that sends bytes as they are given, and goes on reading while it sends."""

import json
import select
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

SECONDS = 60


@dataclass(frozen=True)
class RawAnswer:
    """`sent`: bytes that the server took before it answered; `head`: the first line and the headers, as they came."""

    sent: int
    head: str
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split()[1]) if self.head else 0

    def json(self) -> Any:
        return json.loads(self.body)


def connect(endpoint: str) -> socket.socket:
    address = urlsplit(endpoint)
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port), timeout=SECONDS)


def head(length: int | None = None, content_type: str = "application/json", *lines: str) -> bytes:
    """The head of a POST; without a length its body is chunked."""
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return "\r\n".join(
        ["POST / HTTP/1.1", "host: x", f"content-type: {content_type}", framing, *lines, "", ""]
    ).encode()


def talk(endpoint: str, *parts: bytes | Iterable[bytes]) -> RawAnswer:
    """Sends each part until an answer comes, then reads that to its end."""
    sent = 0
    with connect(endpoint) as connection:
        for part in parts:
            for piece in [part] if isinstance(part, bytes) else part:
                if select.select([connection], [], [], 0)[0]:
                    return read_answer(connection, sent)
                # An answer that came while this was being sent can be read when the server has closed the connection.
                with suppress(ConnectionError):
                    connection.sendall(piece)
                sent += len(piece)
        return read_answer(connection, sent)


def pieces(data: bytes, size: int = 1 << 16) -> Iterable[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def read_answer(connection: socket.socket, sent: int = 0) -> RawAnswer:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(1 << 16)
        if not part:
            break
        data += part
    lines, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in lines.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        body += connection.recv(1 << 16)
    return RawAnswer(sent, lines.decode(), body)
