import itertools
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import pytest

from tests.conftest import DeployedApi, post, wait_for
from tests.faults.raw_client import RawAnswer, connect, head, pieces, read_answer, talk

# Of CPU time, and of memory, that a refused request may cost; from the issue.
CPU_SECONDS, MEMORY_MIB = 0.1, 50
MIB = 1 << 20
MILLION = 1_000_000
FORM = "application/x-www-form-urlencoded"
PART = b'--x\r\ncontent-disposition: form-data; name="a"%s\r\n\r\n\r\n'

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def endpoint(echo: DeployedApi) -> str:
    return echo.endpoint


@pytest.fixture(scope="module")
def cheaply(echo: DeployedApi, endpoint: str) -> Callable[..., RawAnswer]:
    """`talk`, and a check of what the request cost the worker."""
    worker = psutil.Process(echo.row()["processes"]["worker 0"])
    post(endpoint, json={})

    def send(*parts: bytes | Iterable[bytes]) -> RawAnswer:
        seconds = []
        # What else the machine does makes each of them take longer, never shorter.
        for _ in range(3):
            Path(f"/proc/{worker.pid}/clear_refs").write_text("5")
            before, cpu = _peak_mib(worker.pid), sum(worker.cpu_times()[:2])
            answer = talk(endpoint, *parts)
            seconds.append(sum(worker.cpu_times()[:2]) - cpu)
            assert _peak_mib(worker.pid) - before <= MEMORY_MIB
        assert min(seconds) <= CPU_SECONDS
        return answer

    return send


def test_a_body_of_two_gigabytes_is_refused_from_its_head(cheaply):
    answer = cheaply(head(2 << 30))
    assert answer.status == 413
    assert "larger than 64 MiB" in answer.json()["error"]
    assert "connection: close" in answer.head


def test_a_client_that_asks_first_is_not_told_to_go_on_with_a_body_that_is_refused(cheaply):
    answer = cheaply(head(2 << 30, "application/json", "expect: 100-continue"))
    assert answer.status == 413


def test_a_client_that_asks_first_is_told_to_go_on_with_a_good_body(endpoint):
    with connect(endpoint) as connection:
        connection.sendall(head(2, "application/json", "expect: 100-continue"))
        assert read_answer(connection).status == 100
        connection.sendall(b"{}")
        assert read_answer(connection).status == 200
        connection.sendall(head(2) + b"{}")
        assert read_answer(connection).status == 200


def test_an_endless_chunked_body_is_cut(cheaply):
    chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    answer = cheaply(head(), itertools.repeat(chunk))
    assert answer.status == 413
    assert answer.sent < 48 * MIB


def test_deep_json_is_refused(cheaply):
    body = b"[" * 100_000
    answer = cheaply(head(len(body)), body)
    assert (answer.status, "not JSON" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("entry", [b"0", b"{}", b'{"a":0}', b'""'])
def test_json_of_a_million_entries_is_refused(cheaply, entry):
    body = b'{"imgs":[' + b",".join(itertools.repeat(entry, MILLION)) + b"]}"
    answer = cheaply(head(len(body)), pieces(body))
    assert (answer.status, "too many values" in answer.json()["error"]) == (413, True)


def test_a_form_of_a_million_fields_is_refused(cheaply):
    body = b"a=1&" * MILLION
    answer = cheaply(head(len(body), FORM), pieces(body))
    assert (answer.status, "Too many fields" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("name", [b"", b'; filename="b"'])
def test_a_form_of_a_million_parts_is_refused(cheaply, name):
    part = PART % name
    answer = cheaply(head(len(part) * MILLION, "multipart/form-data; boundary=x"), pieces(part * MILLION))
    assert (answer.status, "Too many fi" in answer.json()["error"]) == (400, True)


def test_a_good_body_may_be_large(endpoint):
    text = "x" * (40 * MIB)
    assert len(post(endpoint, json={"img": text}).json()["payload"]["img"]) == len(text)


def test_several_large_bodies_at_once_get_503_beyond_what_may_be_in_memory(endpoint):
    with connect(endpoint) as one, connect(endpoint) as two:
        for connection in (one, two):
            connection.sendall(head(60 * MIB) + bytes(59 * MIB))
        answer = talk(endpoint, head(30 * MIB), pieces(bytes(30 * MIB)))
        assert answer.status == 503
        assert "retry-after" in answer.head
    wait_for(lambda: talk(endpoint, head(30 * MIB), pieces(b"[" + b" " * (30 * MIB - 2) + b"]")).status == 200)


def test_a_refused_small_body_leaves_its_connection_open(endpoint):
    with connect(endpoint) as connection:
        for body, status in ((b"{" * 1000, 400), (b"{}", 200)):
            connection.sendall(head(len(body)) + body)
            answer = read_answer(connection)
            assert (answer.status, "connection: close" in answer.head) == (status, False)


@pytest.mark.parametrize("lines_at_once", [1, 4000])
def test_an_endless_head_is_cut_after_its_client_could_read_why(cheaply, lines_at_once):
    lines = (b"x-more: " + b"x" * 1000 + b"\r\n") * lines_at_once
    answer = cheaply(b"POST / HTTP/1.1\r\nhost: x\r\n", itertools.repeat(lines))
    assert (answer.status, "larger than 64 KiB" in answer.json()["error"]) == (431, True)


def _peak_mib(pid: int) -> float:
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert peak
    return int(peak[1]) / 1024
