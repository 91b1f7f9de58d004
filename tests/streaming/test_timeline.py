import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest

from tests.conftest import free_port
from visionserve.errors import VisionserveError
from visionserve.streaming.timeline import TimelineSampler

# What Flink 2.3 said on a cluster of three task managers, of which one was killed, about a job whose operator
# "classify", on two of them, took 20 ms for each of 2,400 numbers; without what nobody asks here.
RECORDED = json.loads(Path(__file__).with_name("recorded_job.json").read_text())
JOB = "JOB"
VERTEX = "20ba6b65f97481d5570070de90e4e791"
GREEN, RED, GOLD = (11, 110, 79), (164, 38, 44), (201, 162, 39)


class Replay(ThreadingHTTPServer):
    """Gives the recorded answers, one sample after the other and the last one for ever; fails for those in `broken`."""

    def __init__(self, broken: range) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.broken = broken
        self.sample = -1

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Replay

    def do_GET(self) -> None:
        path = self.path.removeprefix("/jobs/")
        if path == JOB:
            self.server.sample = min(self.server.sample + 1, len(RECORDED) - 1)
        failing = self.server.sample in self.server.broken and path != JOB
        body = b"{}" if failing else json.dumps(RECORDED[self.server.sample][path]).encode()
        self.send_response(503 if failing else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def replay(request: pytest.FixtureRequest) -> Iterator[Replay]:
    server = Replay(getattr(request, "param", range(0)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def watched(url: str, **options) -> TimelineSampler:
    """After the job's end."""
    sampler = TimelineSampler(url, JOB, interval=0.01, **options)
    sampler.start()
    sampler.join(60)
    return sampler


def test_of_a_recorded_job_every_attempt_is_known_with_its_time_and_its_images(replay):
    record = watched(replay.url).record
    assert (record.name, record.state, len(record.counts)) == ("sketch", "FINISHED", len(RECORDED))
    first, second = ([record.attempts[VERTEX, task, attempt] for task in (0, 1)] for attempt in (0, 1))
    assert [(each.worker, each.state) for each in first] == [
        ("task-manager-1", "CANCELED"),
        ("task-manager-2", "CANCELED"),
    ]
    assert [(each.worker, each.state, each.images) for each in second] == [
        ("task-manager-2", "FINISHED", 1200),
        ("task-manager-3", "FINISHED", 1200),
    ]
    for attempt in (*first, *second):
        assert record.start < attempt.start < attempt.ready < attempt.end
    assert all(before.end < after.start for before, after in zip(first, second, strict=True))


def test_of_a_recorded_job_counts_never_fall_and_checkpoints_and_the_failure_are_known(replay):
    record = watched(replay.url).record
    counts = [images for _, images in record.counts]
    assert counts == sorted(counts)
    # 2,400, and those that the killed task manager and its fellow had done without a checkpoint.
    assert counts[-1] == record.images == 2400 + 340 + 460
    assert [number for number, each in record.checkpoints.items() if each.state == "COMPLETED"] == [2]
    assert round(record.checkpoints[2].seconds) == 27
    assert record.checkpoints[1].state == "FAILED"
    assert [*record.failures.values()] == ["TaskManager with id task-manager-1 is no longer reachable."]


@pytest.mark.slow
def test_of_a_recorded_job_the_picture_shows_its_bars_checkpoints_failure_and_rate(replay, tmp_path):
    file = tmp_path / "new" / "timeline.png"
    watched(replay.url).write(file)
    picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    height, width = picture.shape[:2]
    assert (height > 600, width) == (True, 1500)
    upper, lower = picture[: height // 2], picture[height // 2 :]
    for part, color in ((upper, GREEN), (upper, GOLD), (upper, RED)):
        assert (np.abs(part.astype(int) - color).max(axis=2) < 10).sum() > 500
    # Of the rate: bars of several heights, below which it is green to the axis.
    green = (lower[..., 1].astype(int) - lower[..., 0] > 60).sum(axis=0)
    assert len(set(green[green > 50].tolist())) > 5
    assert [path.name for path in file.parent.iterdir()] == ["timeline.png"]


@pytest.mark.parametrize("replay", [range(1, 4)], indirect=True)
def test_answers_that_fail_for_a_while_leave_a_gap_and_no_more(replay):
    record = watched(replay.url).record
    assert (record.state, record.images, len(record.counts)) == ("FINISHED", 3200, len(RECORDED) - 3)


def test_a_watched_job_may_be_left_before_its_end(replay, tmp_path):
    sampler = TimelineSampler(replay.url, JOB, interval=3600)
    sampler.start()
    sampler.stop()
    sampler.stop()
    assert (sampler.record.state, len(sampler.record.counts)) == ("RUNNING", 1)
    sampler.write(tmp_path / "timeline.png")
    assert (tmp_path / "timeline.png").stat().st_size > 10_000


def test_a_job_of_which_nothing_was_seen_has_no_time_line(tmp_path):
    sampler = TimelineSampler(f"http://127.0.0.1:{free_port()}", JOB, interval=3600)
    sampler.start()
    sampler.stop()
    with pytest.raises(
        VisionserveError, match=r"Nothing was seen of job JOB at http://127\.0\.0\.1:\d+/jobs/JOB: it has no time line"
    ):
        sampler.write(tmp_path / "timeline.png")
    assert not [*tmp_path.iterdir()]
