import re
import socket

import psutil
import pytest
import requests

from tests.security.conftest import Talker
from tests.security.test_listening import listening

ACCESS = re.compile(
    r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} worker 0: access request_id=(?P<id>\S+) client=127\.0\.0\.1:\d+ "
    r"method=(?P<method>\w+) path=(?P<path>\S+) status=(?P<status>\d+) bytes_in=(?P<bytes_in>\d+) "
    r"bytes_out=(?P<bytes_out>\d+) duration_ms=\d+\.\d in_flight=\d+$"
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def talker(own_machine, talker_spec):
    return Talker(own_machine, talker_spec)


def test_it_listens_on_this_machine_alone(talker):
    supervisor = psutil.Process(talker.machine.get()[0]["processes"]["worker 0"]).parent()
    assert listening(supervisor.pid) == {("127.0.0.1", talker.port)}


def access(talker, request_id):
    (line,) = talker.lines(f"access request_id={request_id}")
    found = ACCESS.match(line)
    assert found, line
    return found


def test_an_answer_has_its_client_s_request_id_and_so_has_its_line(talker):
    answer = talker.ask(x_request_id="client-1")
    assert answer.headers["x-request-id"] == "client-1"
    line = access(talker, "client-1")
    assert line["method"] == "POST"
    assert line["path"] == "/"
    assert line["status"] == "200"
    assert int(line["bytes_in"]) == len(answer.request.body)
    assert int(line["bytes_out"]) == len(answer.content)


def test_an_answer_without_a_client_s_id_has_a_new_one(talker):
    first, second = (talker.ask().headers["x-request-id"] for _ in range(2))
    assert first != second
    assert access(talker, first)["status"] == access(talker, second)["status"] == "200"


@pytest.mark.parametrize("wrong", ["x" * 129, "caf\u00e9", "tab\there"])
def test_an_id_that_is_not_sane_is_replaced(talker, wrong):
    answer = requests.get(talker.endpoint, headers={b"x-request-id": wrong.encode("latin-1")}, timeout=30)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("DELETE", "/", 405), ("GET", "/healthz", 200)]
)
def test_every_answer_has_an_id(talker, method, path, status):
    answer = requests.request(method, f"{talker.endpoint}{path}", timeout=30)
    assert answer.status_code == status
    line = access(talker, answer.headers["x-request-id"])
    assert (line["method"], line["path"], line["status"]) == (method, path, str(status))


def test_the_trace_of_a_failing_predictor_and_what_it_logs_name_the_request(talker):
    assert talker.ask("fail", "broken", x_request_id="failing-1").status_code == 500
    assert access(talker, "failing-1")["status"] == "500"
    (line,) = talker.lines("ERROR [failing-1]")
    assert line.endswith("worker 0: ERROR [failing-1] the predictor failed")
    assert talker.lines("    ValueError: broken")
    talker.ask("log", "hello", x_request_id="logging-1")
    assert talker.lines("WARNING [logging-1] it says hello")


def test_a_head_request_has_no_bytes_of_a_body(talker):
    requests.head(f"{talker.endpoint}/", headers={"x-request-id": "head-1"}, timeout=30)
    line = access(talker, "head-1")
    assert (line["method"], line["status"], line["bytes_out"]) == ("HEAD", "200", "0")


def test_neither_query_nor_headers_nor_bodies_are_logged(talker):
    url = f"{talker.endpoint}/?token=query-marker"
    headers = {"authorization": "Bearer header-marker", "cookie": "cookie-marker", "x-request-id": "quiet-1"}
    requests.post(url, json={"text": "body-marker"}, headers=headers, timeout=30)
    assert access(talker, "quiet-1")
    assert not re.search("(query|header|cookie|body)-marker", talker.log())


FORGED = "x\nworker 0: access request_id=forged-1 status=200\r\x1b[2J\u2028worker 0: access request_id=forged-2"


@pytest.mark.parametrize("do", ["fail", "log"])
def test_a_request_cannot_forge_lines_of_the_log(talker, do):
    talker.ask(do, FORGED, x_request_id=f"forger-{do}")
    access(talker, f"forger-{do}")
    assert not [line for line in talker.lines("forged-") if ACCESS.match(line) or "worker 0: access" in line[:50]]
    assert "\x1b" not in talker.log()


def test_a_path_with_control_characters_or_without_end_is_one_harmless_line(talker):
    requests.get(f"{talker.endpoint}/a%0A%1B%22b", headers={"x-request-id": "path-1"}, timeout=30)
    assert access(talker, "path-1")["path"] == "/a%0A%1B%22b"
    with socket.create_connection(("127.0.0.1", talker.port)) as connection:
        head = b'GET /"' + b"y" * 2000 + b" HTTP/1.1\r\nhost: here\r\nx-request-id: path-2\r\n\r\n"
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 404")
    (line,) = talker.lines("request_id=path-2")
    assert r'path="/\"yyy' in line
    assert len(line) < 600


def test_a_log_that_is_not_taken_holds_up_no_request(talker):
    supervisor = psutil.Process(talker.machine.get()[0]["processes"]["worker 0"]).parent()
    supervisor.suspend()
    try:
        with requests.Session() as session:
            # Twice as many lines as the pipe between the two holds.
            for _ in range(800):
                answer = session.get(f"{talker.endpoint}/healthz", headers={"x-request-id": "stalled"}, timeout=30)
                assert answer.status_code == 200
    finally:
        supervisor.resume()
    assert len(talker.lines("request_id=stalled", 800)) == 800
