import json
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from tests.conftest import free_port, wait_for
from tests.photos import encoded, photographs
from tests.services.rest.rest_services import rest_service, started

pytestmark = pytest.mark.slow

CAT = encoded(photographs()["chelsea"], ".jpg")


def test_requests_wait_for_a_killed_model_server_and_health_tells_of_it(home):
    with rest_service(home) as service:
        [killed] = service.children()
        with ThreadPoolExecutor(8) as callers:
            answers = [callers.submit(service.classify, CAT) for _ in range(32)]
            wait_for(lambda: sum(answer.done() for answer in answers) >= 4)
            killed.kill()
            assert not service.healthy()
            assert [row["status"] for row in service.get("/classify").json()["models"]] == ["unavailable"]
        assert [answer.result().json() for answer in answers] == [{"classes": 286}] * 32
        wait_for(service.healthy)
        assert f"model server (process {killed.pid}) ended with code -9; starting it again" in service.log.read_text()


def in_flight(request: requests.PreparedRequest) -> HTTPConnection:
    """With the head of the request sent, which the service has begun to answer, and its body still to be."""
    connection = HTTPConnection(urlsplit(request.url).netloc, timeout=60)
    connection.putrequest("POST", request.path_url)
    for name, value in {**request.headers, "Expect": "100-continue"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    return connection


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered_at_the_end(home, number):
    with rest_service(home) as service, ExitStack() as stack:
        children = service.children()
        form = requests.Request("POST", f"{service.url}/classify/resnet", files={"image": ("photo", CAT)}).prepare()
        connections = [stack.enter_context(closing(in_flight(form))) for _ in range(8)]
        for connection in connections[:4]:
            connection.send(form.body)
        service.process.send_signal(number)
        for connection in connections[4:]:
            connection.send(form.body)
        assert [json.load(connection.getresponse()) for connection in connections] == [{"classes": 286}] * 8
        assert service.process.wait(60) == 0
        assert not any(child.is_running() for child in children)


def test_a_killed_service_takes_its_model_server_along(home):
    with rest_service(home, "--engine", "null") as service:
        [server] = service.children()
        service.process.kill()
        assert psutil.wait_procs([server], timeout=60)[1] == []


def test_a_signal_while_the_model_loads_ends_it_well(home):
    with started(home, "--port", free_port()) as process:
        wait_for(lambda: psutil.Process(process.pid).children())
        [server] = psutil.Process(process.pid).children()
        process.terminate()
        assert process.wait(60) == 0
        assert not server.is_running()
