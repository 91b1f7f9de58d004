import os
import signal
import threading
import time

import psutil
import pytest

from tests.bench.servers import Exchange, serving


def slow(exchange: Exchange) -> None:
    time.sleep(0.05)
    exchange.answer()


def worker_processes(parent: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(parent).children() if "spawn_main" in " ".join(child.cmdline())]


def assert_nothing_left(group: int) -> None:
    for _ in range(1200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("processes of the run are still there after 60 s")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_prints_what_was_measured_so_far(bench, photo, number):
    with serving(slow) as (url, record):
        files = ("--csv", "figures.csv", "--report", "figures.html")
        process = bench.start("-w", 2, "-t", 2, "-i", 600, *files, photo, url)
        record.wait_for(20)
        os.killpg(process.pid, number)  # as a terminal does: to the workers too
        run = bench.finish(process)
        assert_nothing_left(process.pid)
    assert run.code == 130
    assert run.complaints == []
    assert run.figures["interrupted"] is True
    assert run.figures["failed"] == 0, "a request that was abandoned did not fail"
    assert run.figures["served"] <= len(record.bodies) <= run.figures["served"] + run.figures["abandoned"]
    assert run.figures["served"] >= 16
    assert run.row("inferences") == str(run.figures["served"])
    assert "interrupted" in run.notes
    assert f",{run.figures['served']}," in (bench.folder / "figures.csv").read_text()
    assert "interrupted" in (bench.folder / "figures.html").read_text()


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_a_server_that_hangs(bench, photo):
    def hang(exchange: Exchange) -> None:
        exchange.connection.recv(1)

    with serving(hang) as (url, record):
        process = bench.start("-t", 3, photo, url)
        record.wait_for(3)
        process.send_signal(signal.SIGINT)
        run = bench.finish(process)
    assert run.code == 130
    assert (run.figures["served"], run.figures["abandoned"]) == (0, 3)


@pytest.mark.slow
def test_a_worker_that_dies_is_reported_and_the_others_are_counted(bench, photo):
    killed = threading.Event()

    def once_it_died(exchange: Exchange) -> None:
        assert killed.wait(60)
        exchange.answer()

    with serving(once_it_died) as (url, record):
        process = bench.start("-w", 2, "-s", 60, photo, url)
        record.wait_for(2)
        # Started one after the other: the first is the oldest.
        min(worker_processes(process.pid), key=psutil.Process.create_time).kill()
        killed.set()
        run = bench.finish(process)
        assert_nothing_left(process.pid)
    assert run.code == 1
    assert run.complaints == []
    assert run.figures["requests"] == 60
    assert run.figures["lost_workers"] == ["worker 1 died (killed by SIGKILL)"]
    assert "worker 1 died" in run.notes


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(bench, photo):
    with serving(slow) as (url, record):
        process = bench.start("-w", 2, "-i", 600, photo, url)
        record.wait_for(10)
        process.kill()
        process.communicate()
        assert_nothing_left(process.pid)
