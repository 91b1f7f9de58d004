"""A folder is classified on an embedded cluster."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.streaming.conftest import LABELS
from tests.streaming.streams import SECONDS, lines, started_stream, stream

pytestmark = pytest.mark.slow

# Of the original's call.
ORIGINAL = ["--modelType", "resnet_v1_50", "--inputShape", "1,224,224,3", "--ifReverseInputChannels", "true"]
ORIGINAL += ["--meanValues", "123.68,116.78,103.94", "--scale", "1"]


@pytest.fixture
def broken_photo(photos: Path) -> Path:
    path = photos / "broken.JPG"
    path.write_bytes((photos / "coffee.jpg").read_bytes()[:5000])
    return path


def test_rows_go_to_files_and_what_is_broken_to_others(
    stream_environment: Path, model: Path, photos: Path, broken_photo: Path, tmp_path: Path
) -> None:
    folders = ["--imageFolder", photos, "--output", tmp_path / "two wörds, 100%20#", "--broken", tmp_path / "is broken"]
    done = stream(stream_environment, *folders, *ORIGINAL, "-p", 2, "--timeline", tmp_path / "timeline.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("3 images, 1 broken, ")
    assert len(done.stderr.splitlines()) == 1

    rows = {row["image"]: row["top5"] for row in lines(tmp_path / "two wörds, 100%20#")}
    assert set(rows) == {"chelsea.jpg", "coffee.jpg", "below/camera.jpg"}
    assert {Path(name).stem: top5[0]["label"] for name, top5 in rows.items()} == LABELS
    for top5 in rows.values():
        probabilities = [each["probability"] for each in top5]
        assert len(top5) == 5
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < sum(probabilities) <= 1 + 1e-6
    assert rows["chelsea.jpg"][0]["probability"] == pytest.approx(0.75, abs=0.02)

    assert lines(tmp_path / "is broken") == [
        {"image": "broken.JPG", "error": "broken.JPG is not a complete image: its JPEG data are cut off."}
    ]
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")

    again = stream(stream_environment, *folders, "--resume")
    assert again.returncode == 0
    assert again.stderr == "All images are in the output: there is nothing left to classify.\n"


def test_rows_go_to_the_terminal_and_reasons_beside_them(
    stream_environment: Path, model: Path, photos: Path, broken_photo: Path
) -> None:
    done = stream(stream_environment, "--imageFolder", photos, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    rows = {row["image"]: row["top5"][0]["label"] for row in map(json.loads, done.stdout.splitlines())}
    assert {Path(name).stem: label for name, label in rows.items()} == LABELS
    reason, summary = done.stderr.splitlines()
    assert json.loads(reason)["image"] == "broken.JPG"
    assert summary.startswith("3 images, 1 broken, ")


def test_what_makes_a_job_start_again_is_told_and_ctrl_c_ends_it(
    stream_environment: Path, model: Path, photos: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "python"
    running = started_stream(
        stream_environment, "--imageFolder", photos, "--pyExecutable", missing, "--output", tmp_path / "rows"
    )
    assert running.stderr is not None
    said = next(line for line in iter(running.stderr.readline, "") if str(missing) in line)
    running.send_signal(signal.SIGINT)
    _, more = running.communicate(timeout=SECONDS)
    assert said.startswith("The job starts again from its last checkpoint: ")
    assert running.returncode == 130
    assert more.splitlines()[-1].startswith("0 images, 0 broken, ")
    assert list((tmp_path / "rows").iterdir()) == []


def test_a_job_whose_rows_nobody_reads_is_canceled_in_silence(
    stream_environment: Path, model: Path, photos: Path
) -> None:
    running = started_stream(stream_environment, "--imageFolder", photos, "--watch")
    assert running.stdout is not None
    assert running.stderr is not None
    assert running.stderr.readline() == f"Watching {photos} until Ctrl-C.\n"
    running.stdout.close()
    assert running.stderr.read() == ""
    assert running.wait(SECONDS) == 1


@pytest.mark.parametrize(
    ("number", "last", "held"),
    [
        (signal.SIGTERM, "flink.out", "gateway._wait_until_it_listens"),
        (signal.SIGINT, "shipment/shipped.zip", "shipment._model_files"),
    ],
)
def test_a_signal_before_there_is_a_job_leaves_nothing(
    stream_environment: Path, model: Path, photos: Path, tmp_path: Path, number: signal.Signals, last: str, held: str
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    arguments = ["--imageFolder", photos, "--output", tmp_path / "rows"]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    running = started_stream(stream_environment, *arguments, held=held, env=environment)
    wait_for(lambda: list(temporary.glob(f"visionserve-stream-*/{last}")), SECONDS)
    running.send_signal(number)
    _, said = running.communicate(timeout=SECONDS)
    assert (running.returncode, said) == (130, "Interrupted: no job is left behind.\n")
    assert list(temporary.iterdir()) == []
    assert list((tmp_path / "rows").iterdir()) == []
