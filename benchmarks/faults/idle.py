"""Connections that do nothing, or nearly nothing, and what they cost those who ask."""

import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import requests
from deployment import deployed, machine
from memory import resident_mib
from serving import CASES, request_body

TIMEOUT = 60
HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"
BODY = HEAD + b"content-type: application/json\r\ncontent-length: 100000\r\n\r\n{"


@click.command()
@click.option("--engine", default="openvino", show_default=True)
@click.option("--idle", default=2000, show_default=True, help="Connections that send nothing.")
@click.option("--slow", default=200, show_default=True, help="Of each kind: a byte a second in the head, in the body.")
@click.option("--seconds", default=30.0, show_default=True)
def main(engine: str, idle: int, slow: int, seconds: float) -> None:
    """Hold connections open to a deployment of cortex_cpu.yaml, opening each again as it is closed, beside one client.

    Prints the client's latencies with and without them, and the memory of the deployment.
    """
    click.echo(f"machine: {machine()}")
    with tempfile.TemporaryDirectory() as folder, deployed(engine) as deployment:
        endpoint = deployment.row()["endpoint"]
        body = request_body(CASES[0], Path(folder)).read_bytes()
        ask(endpoint, body, 3)
        alone, _ = ask(endpoint, body, seconds)
        before = resident_mib(deployment)
        with Crowd(endpoint, idle, slow) as crowd:
            beside, wrong = ask(endpoint, body, seconds)
            held = crowd.size
            memory = resident_mib(deployment)
    for name, latencies in (("alone", alone), ("beside them", beside)):
        centiles = statistics.quantiles(latencies, n=100)
        click.echo(f"{name}: {len(latencies)} answers, p50 {centiles[49]:.1f} ms, p99 {centiles[98]:.1f} ms")
    click.echo(f"connections held: {held}; opened again after they were closed: {crowd.reopened}")
    click.echo(f"memory: {before:.0f} MiB without them, {memory:.0f} MiB with them")
    verdict = "met" if not wrong else "NOT MET"
    click.echo(f"requests of the client that failed: {wrong}, due at most 0: {verdict}")


def ask(endpoint: str, body: bytes, seconds: float) -> tuple[list[float], int]:
    """Latencies in ms of one client, a new connection for every tenth request; and how many failed."""
    latencies, wrong, count = [], 0, 0
    session = requests.Session()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if count % 10 == 0:
            session.close()
        started = time.monotonic()
        answer = session.post(endpoint, data=body, headers={"content-type": "application/json"}, timeout=TIMEOUT)
        latencies.append((time.monotonic() - started) * 1000)
        wrong += answer.status_code != 200
        count += 1
    session.close()
    return latencies, wrong


class Crowd:
    def __init__(self, endpoint: str, idle: int, slow: int) -> None:
        address = urlsplit(endpoint)
        self._address: Any = (address.hostname, address.port)
        self._openings = [b""] * idle + [HEAD + b"x-slow: "] * slow + [BODY] * slow
        self._connections: list[socket.socket] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._hold)
        self.reopened = 0

    @property
    def size(self) -> int:
        return len(self._connections)

    def __enter__(self) -> "Crowd":
        self._connections = [self._open(opening) for opening in self._openings]
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        for connection in self._connections:
            connection.close()

    def _open(self, opening: bytes) -> socket.socket:
        connection = socket.create_connection(self._address, timeout=TIMEOUT)
        connection.sendall(opening)
        connection.setblocking(False)
        return connection

    def _hold(self) -> None:
        while not self._stop.wait(1):
            for number, opening in enumerate(self._openings):
                if self._is_closed(self._connections[number], opening):
                    self._connections[number].close()
                    self._connections[number] = self._open(opening)
                    self.reopened += 1

    def _is_closed(self, connection: socket.socket, opening: bytes) -> bool:
        try:
            if opening:
                connection.send(b" ")
            connection.recv(1)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        return True


if __name__ == "__main__":
    main()
