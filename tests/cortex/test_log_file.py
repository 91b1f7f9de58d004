import logging
import os

import pytest

from visionserve.cortex.log_file import LogFile, LogReader, lines
from visionserve.errors import DeploymentError


def write(log: LogFile, text: str) -> None:
    log.emit(logging.makeLogRecord({"msg": text}))


def test_of_two_runs_that_write_to_one_log_only_one_rotates_it(tmp_path):
    path = tmp_path / "api.log"
    living, draining = LogFile(path, size=100), LogFile(path, size=100)
    write(draining, "x" * 100)
    write(living, "rotated")
    for number in range(3):
        write(draining, f"drains {number}")
        write(living, f"lives {number}")
    assert path.read_text().split("\n")[:3] == ["rotated", "drains 0", "lives 0"]
    assert path.with_name("api.log.1").read_text() == "x" * 100 + "\n"
    assert not path.with_name("api.log.2").exists()


def test_a_run_that_finds_the_log_full_while_another_rotates_it_leaves_it_to_that(tmp_path, monkeypatch):
    path = tmp_path / "api.log"
    living, draining = LogFile(path, size=100), LogFile(path, size=100)
    write(draining, "x" * 100)
    replace = os.replace

    def replace_late(source, target) -> None:
        monkeypatch.undo()
        write(draining, "meanwhile")
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_late)
    write(living, "lives")
    write(draining, "drains")
    assert path.read_text() == "lives\ndrains\n"
    assert path.with_name("api.log.1").read_text() == "x" * 100 + "\nmeanwhile\n"
    assert not path.with_name("api.log.2").exists()


def test_a_log_that_was_moved_is_begun_anew(tmp_path):
    path = tmp_path / "api.log"
    log = LogFile(path)
    write(log, "before")
    path.rename(tmp_path / "elsewhere")
    write(log, "after")
    assert path.read_text() == "after\n"
    assert (tmp_path / "elsewhere").read_text() == "before\n"


def test_a_missing_log_is_a_sentence_and_is_waited_for_when_followed(tmp_path):
    path = tmp_path / "api.log"
    with pytest.raises(DeploymentError, match=r"api\.log is missing: it was moved or removed"):
        list(lines(path, follow=False))
    followed = lines(path, follow=True)
    reader = LogReader(path)
    assert list(reader.new()) == []
    path.write_text("there\n")
    assert next(followed) == "there\n"
    assert list(reader.new()) == ["there\n"]


def test_a_reader_goes_on_through_rotations_and_may_leave_out_what_is_there(tmp_path):
    path = tmp_path / "api.log"
    log = LogFile(path, size=100)
    write(log, "earlier")
    reader = LogReader(path)
    reader.skip()
    write(log, "x" * 100)
    write(log, "in the next file")
    assert list(reader.new()) == ["x" * 100 + "\n", "in the next file\n"]
    assert list(reader.new()) == []
