"""The thread that writes a worker's access lines."""

import fcntl
import os
import re
from collections.abc import Iterator
from typing import TextIO

import pytest

from visionserve.cortex import line_writer
from visionserve.cortex.line_writer import LineWriter


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """What is written is no matter of how soon the thread gets its turn."""
    monkeypatch.setattr(line_writer, "CLOSE_SECONDS", 60.0)


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    reader, writer = os.pipe()
    with os.fdopen(reader) as read_end, os.fdopen(writer, "w") as write_end:
        yield read_end, write_end


def test_all_lines_are_written_in_their_order_when_it_is_closed(pipe):
    read_end, write_end = pipe
    lines = [f"{number} {'x' * (number % 100)}" for number in range(500)]
    writer = LineWriter(write_end.fileno())
    for line in lines:
        writer.write(line)
    writer.close()
    write_end.close()
    assert read_end.read().splitlines() == lines


def test_lines_that_nobody_reads_are_dropped_and_counted_and_hold_nobody_up(pipe, monkeypatch):
    read_end, write_end = pipe
    monkeypatch.setattr(line_writer, "LONGEST_QUEUE", 100)
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, os.sysconf("SC_PAGE_SIZE"))
    writer = LineWriter(write_end.fileno())
    sent = 2000
    for number in range(sent):
        writer.write(f"{number} {'x' * 100}")
    written, dropped = 0, None
    while not dropped:
        dropped = re.fullmatch(r"WARNING (\d+) access lines were dropped: the log is too slow\n", read_end.readline())
        written += not dropped
    assert int(dropped[1]) > 0
    assert written + int(dropped[1]) == sent
    writer.write("it goes on")
    writer.close()
    write_end.close()
    assert read_end.read().splitlines() == ["it goes on"]


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_is_gone_ends_it(pipe):
    read_end, write_end = pipe
    writer = LineWriter(write_end.fileno())
    read_end.close()
    writer.write("nobody reads this")
    writer.close()
    writer.write("nor this")
