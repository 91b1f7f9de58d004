import contextlib
import hashlib
import os
import pty
import random
import select
import socket
import subprocess
import sys
import threading

import pytest

from tests.models.file_server import serving
from visionserve.errors import WeightsError
from visionserve.models.checksum import Checksum
from visionserve.models.download import Patience, download

DATA = random.Random(2).randbytes(3_000_000)
RIGHT = Checksum("sha256", hashlib.sha256(DATA).hexdigest())
# Only where nothing answers is it short: a busy machine answers late.
PATIENT = Patience(connect=60, read=60, attempts=3, pause=0.01)
HASTY = Patience(connect=1, read=0.2, attempts=3, pause=0.01)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving({"/weights.bin": DATA}) as server:
        yield server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "weights.bin"


def fetch(server, target):
    return download(f"{server.url}/weights.bin", target, RIGHT, PATIENT)


def leftovers(target):
    return [path.name for path in target.parent.iterdir() if not path.name.startswith(".")]


def test_a_file_arrives_whole_and_alone(server, target):
    assert fetch(server, target).read_bytes() == DATA
    assert leftovers(target) == ["weights.bin"]


def test_a_download_that_breaks_off_goes_on_where_it_broke(server, target):
    server.cuts = [1_000_000, 500_000]
    assert fetch(server, target).read_bytes() == DATA
    first, *later = server.wanted_ranges()
    starts = [int(wanted.removeprefix("bytes=").rstrip("-")) for wanted in later]
    assert first is None
    assert starts == [pytest.approx(1_000_000, abs=20_000), pytest.approx(1_500_000, abs=40_000)]


def test_more_breaks_than_attempts_do_not_matter_while_bytes_come(server, target):
    server.cuts = [300_000] * 8
    assert fetch(server, target).read_bytes() == DATA


def test_what_an_earlier_process_got_is_not_fetched_again(server, target):
    target.parent.mkdir()
    target.with_name("weights.bin.part").write_bytes(DATA[:2_000_000])
    assert fetch(server, target).read_bytes() == DATA
    assert server.wanted_ranges() == ["bytes=2000000-"]


def test_a_part_that_was_already_whole_is_used(server, target):
    target.parent.mkdir()
    target.with_name("weights.bin.part").write_bytes(DATA)
    assert fetch(server, target).read_bytes() == DATA
    assert leftovers(target) == ["weights.bin"]


@pytest.mark.parametrize("length", [1_000, len(DATA), len(DATA) + 5])
def test_a_part_of_another_file_is_thrown_away(server, target, length):
    target.parent.mkdir()
    target.with_name("weights.bin.part").write_bytes(b"x" * length)
    assert fetch(server, target).read_bytes() == DATA


def test_a_server_without_ranges_is_asked_for_everything_again(server, target):
    server.ranges = False
    server.cuts = [1_000_000]
    assert fetch(server, target).read_bytes() == DATA


def test_a_busy_server_is_asked_again(server, target):
    server.statuses = [503, 429]
    assert fetch(server, target).read_bytes() == DATA
    assert len(server.requests) == 3


def test_a_server_that_stays_busy_is_given_up_in_one_sentence(server, target):
    server.statuses = [503] * 100
    with pytest.raises(WeightsError, match=r"answered 503 Service Unavailable \(tried 3 times"):
        fetch(server, target)
    assert len(server.requests) == 3
    assert leftovers(target) == []


def test_a_file_that_always_breaks_off_at_the_same_place_never_appears(server, target):
    server.ranges = False
    server.cuts = [1_000_000] * 100
    with pytest.raises(WeightsError, match="broke off"):
        fetch(server, target)
    assert not target.exists()


def test_a_refusal_is_not_repeated(server, target):
    with pytest.raises(WeightsError, match="answered 404 Not Found"):
        download(f"{server.url}/other.bin", target, RIGHT, PATIENT)
    assert len(server.requests) == 1


def test_an_altered_file_is_refused_and_leaves_nothing(server, target):
    server.files["/weights.bin"] = DATA[:-1] + bytes([DATA[-1] ^ 1])
    with pytest.raises(WeightsError, match="sha256 is not the pinned one"):
        fetch(server, target)
    assert leftovers(target) == []


def test_an_altered_file_in_the_cache_is_fetched_again(server, target):
    target.parent.mkdir()
    target.write_bytes(DATA[:-1])
    assert fetch(server, target).read_bytes() == DATA


def test_a_right_file_in_the_cache_is_used_without_a_request(server, target):
    fetch(server, target)
    server.requests.clear()
    assert fetch(server, target) == target
    assert server.requests == []


def test_two_at_once_fetch_it_once(server, target):
    both = [threading.Thread(target=fetch, args=(server, target)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(timeout=180)
    assert target.read_bytes() == DATA
    assert len(server.requests) == 1


def test_a_port_where_nobody_listens_is_named(target, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(WeightsError, match=rf"127\.0\.0\.1:{port}: Connection refused"):
            download(f"http://127.0.0.1:{port}/weights.bin", target, RIGHT, PATIENT)


def test_a_host_that_says_nothing_is_given_up(target, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/weights.bin"
        with pytest.raises(WeightsError, match="timed out"):
            download(url, target, RIGHT, HASTY)


def test_a_host_whose_connections_hang_is_given_up_at_once(target, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(address)
        try:
            with pytest.raises(WeightsError, match="did not answer within 1 s"):
                download(f"http://127.0.0.1:{address[1]}/weights.bin", target, RIGHT, HASTY)
        finally:
            for caller in callers:
                caller.close()


def test_a_proxy_that_is_not_there_is_named(target, monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1:1: Connection refused"):
        download("http://weights.example/weights.bin", target, RIGHT, PATIENT)


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="could not be written"):
        fetch(server, tmp_path / "file" / "weights.bin")


FETCH = """
import sys
from pathlib import Path
from visionserve.models.checksum import Checksum
from visionserve.models.download import download
download(sys.argv[1], Path(sys.argv[2]), Checksum("sha256", sys.argv[3]))
"""


def test_the_progress_shows_on_a_terminal(server, target):
    keyboard, screen = pty.openpty()
    command = [sys.executable, "-c", FETCH, f"{server.url}/weights.bin", str(target), RIGHT.digest]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stderr=screen, env=environment) as process:
        os.close(screen)
        shown = b""
        # One read gives no more than a terminal's buffer holds, of which a slow download fills more than one.
        with contextlib.suppress(OSError):  # Linux's way to say that the other end of a terminal is closed
            while select.select([keyboard], [], [], 60)[0]:
                shown += os.read(keyboard, 4096)
        assert process.wait(60) == 0
    os.close(keyboard)
    assert b"weights.bin" in shown
    assert b"3.0/3.0 MB" in shown


def test_no_progress_is_written_into_a_pipe(server, target):
    command = [sys.executable, "-c", FETCH, f"{server.url}/weights.bin", str(target), RIGHT.digest]
    done = subprocess.run(command, capture_output=True, check=True, timeout=180)
    assert (done.stdout, done.stderr) == (b"", b"")
