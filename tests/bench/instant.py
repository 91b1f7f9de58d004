import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from tests.bench.servers import LABELS

BODY = json.dumps([LABELS]).encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


class Instant(asyncio.Protocol):
    """Answers a request as soon as its last byte is there, for next to no CPU: no pipelining, no checks."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.missing = 0

    def data_received(self, data: bytes) -> None:
        if not self.missing:
            head = data.index(b"\r\n\r\n") + 4
            length = next(line for line in data[:head].split(b"\r\n") if line.startswith(b"Content-Length:"))
            self.missing = head + int(length.split(b":")[1])
        self.missing -= len(data)
        if not self.missing:
            self.transport.write(ANSWER)


@contextmanager
def instant_server() -> Iterator[str]:
    """Instant in a process of its own; yields its URL."""
    command = [sys.executable, "-m", "tests.bench.instant"]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
