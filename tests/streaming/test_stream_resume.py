"""A run goes on with the folder that a killed one left, before Java is started."""

import json
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.streaming.conftest import LABELS
from tests.streaming.streams import parquet_rows, stream

pytestmark = pytest.mark.slow

NAMES = ["below/camera.jpg", "chelsea.jpg", "coffee.jpg"]
ROWS = [{"image": name, "top5": [{"label": LABELS[Path(name).stem], "probability": 0.5}]} for name in NAMES]
NOTHING_LEFT = "All images are in the output: there is nothing left to classify.\n"


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """An output folder with two finished files of lines, and one in progress whose row is in no finished one."""
    lines = tmp_path / "rows" / "_lines"
    lines.mkdir(parents=True)
    (lines / "part-a-0.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    (lines / "part-b-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[1:]))
    (lines / ".part-b-1.jsonl.inprogress.9d8f").write_text(json.dumps(ROWS[0]) + "\n")
    (tmp_path / "rows" / "_job.json").touch()
    return tmp_path / "rows"


def test_finished_lines_become_parquet_once_wherever_the_last_run_was_stopped(
    stream_environment: Path, model: Path, photos: Path, left: Path
) -> None:
    arguments = ["--imageFolder", photos, "--output", left, "--format", "parquet", "--resume"]
    done = stream(stream_environment, *arguments)
    assert (done.returncode, done.stderr) == (0, NOTHING_LEFT)
    assert sorted(path.name for path in left.iterdir()) == ["part-a-0.parquet", "part-b-0.parquet"]

    # Stopped after the file took its place, and before the lines were removed.
    (left / "_lines").mkdir()
    (left / "_lines" / "part-a-0.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    (left / ".part-c-0.parquet.x1y2").write_bytes(b"PAR1")
    again = stream(stream_environment, *arguments)
    assert (again.returncode, again.stderr) == (0, NOTHING_LEFT)
    assert sorted(path.name for path in left.iterdir()) == ["part-a-0.parquet", "part-b-0.parquet"]
    assert sorted(row["image"] for row in parquet_rows(stream_environment, left)["rows"]) == NAMES


def test_it_is_refused_without_the_option_and_in_another_format(
    stream_environment: Path, model: Path, photos: Path, left: Path
) -> None:
    arguments = ["--imageFolder", photos, "--output", left]
    assert "is not empty" in stream(stream_environment, *arguments, "--format", "parquet").stderr
    (left / "part-d-0.parquet").touch()
    other = stream(stream_environment, *arguments, "--resume")
    assert other.returncode == 2
    assert other.stderr == f"Error: --output {left} holds .parquet files: go on in the same --format.\n"


def test_a_folder_whose_job_may_still_run_is_left_alone(
    stream_environment: Path, model: Path, photos: Path, left: Path
) -> None:
    cluster = f"127.0.0.1:{free_port()}"
    (left / "_job.json").write_text(json.dumps({"cluster": cluster, "job": "0" * 32}))
    done = stream(stream_environment, "--imageFolder", photos, "--output", left, "--format", "parquet", "--resume")
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"Error: Job {'0' * 32} on {cluster} wrote to --output {left}, and that cluster does "
    )
    assert len(list((left / "_lines").iterdir())) == 3
