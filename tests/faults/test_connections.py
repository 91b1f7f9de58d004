import re
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.conftest import DeployedApi, post, wait_for
from tests.faults.raw_client import connect, head, talk
from tests.inference.model_servers import PREDICT, model_server

IDLE, SLOW = 300, 20
# What the head of a request and a stalled body have, and the seconds between two looks at them, several times over.
PATIENCE = 40

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rest_api(model: Path) -> Iterator[str]:
    """The model server's REST API, whose server is also that of the REST classifier and of the function."""
    with model_server("--model", f"resnet50={model}", "--engine", "null") as server:
        yield server.url("")


def test_idle_connections_and_slow_senders_keep_nobody_out_and_are_cut(echo: DeployedApi, rest_api: str):
    endpoint = echo.endpoint
    idle = [connect(endpoint) for _ in range(IDLE)]
    heads = [connect(endpoint) for _ in range(SLOW)]
    bodies = [connect(url) for url in (endpoint, rest_api) for _ in range(SLOW)]
    for connection in heads:
        connection.sendall(b"POST / HTTP/1.1\r\nx-slow: ")
    for number, connection in enumerate(bodies):
        path = "/" if number < SLOW else PREDICT
        connection.sendall(head(1000).replace(b"POST /", b"POST " + path.encode()) + b"{")
    slow = heads + bodies
    cut: dict[socket.socket, bytes] = {}

    def all_are_cut() -> bool:
        for connection in slow:
            if connection not in cut:
                connection.setblocking(False)
                try:
                    connection.send(b" ")
                    cut[connection] = connection.recv(1 << 16)
                except BlockingIOError:
                    continue
        assert post(endpoint, json={"a": 1}).json()["payload"] == {"a": 1}
        time.sleep(1)
        return len(cut) == len(slow)

    wait_for(all_are_cut, PATIENCE)
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in cut.values())
    assert b"did not come within 10 seconds" in cut[heads[0]]
    assert all(b"less than 500 bytes a second" in cut[connection] for connection in bodies)
    wait_for(lambda: echo.log().count("status=408") == SLOW)
    metrics = requests.get(f"{endpoint}/metrics", timeout=60).text
    assert re.search(rf'^visionserve_requests_total{{.*code="408".*}} {SLOW}\.0$', metrics, re.MULTILINE)
    for connection in idle:
        connection.settimeout(PATIENCE)
        assert connection.recv(1) == b""
    for connection in idle + slow:
        connection.close()


def test_where_file_descriptors_run_out_idle_connections_make_room_for_new_ones(echo: DeployedApi):
    endpoint = echo.endpoint
    worker = psutil.Process(echo.row()["processes"]["worker 0"])
    # Those of the test before would be descriptors that come free.
    wait_for(lambda: {each.status for each in worker.net_connections("tcp")} == {psutil.CONN_LISTEN})
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (worker.num_fds() + 10,) * 2)
    kept = []
    for _ in range(25):
        connection = connect(endpoint)
        connection.sendall(head(2) + b"{}")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        kept.append(connection)
    wait_for(lambda: "Too many open files" in echo.log())
    assert talk(endpoint, head(2), b"{}").status == 200
    for connection in kept:
        connection.close()
