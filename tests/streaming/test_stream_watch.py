"""A growing folder is watched on an embedded cluster, and its rows become Parquet files."""

import signal
import time
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.photos import encoded, photographs
from tests.streaming.conftest import LABELS
from tests.streaming.streams import SECONDS, parquet_rows, started_stream

pytestmark = pytest.mark.slow


def images(python: Path, folder: Path) -> list[str]:
    return (
        sorted(row["image"] for row in parquet_rows(python, folder)["rows"]) if list(folder.glob("*.parquet")) else []
    )


def test_images_that_come_are_classified_once_and_whole(
    stream_environment: Path, model: Path, photos: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows"
    arguments = ["--imageFolder", photos, "--watch", "--output", rows, "--format", "parquet"]
    running = started_stream(stream_environment, *arguments, "--checkpointInterval", "1s")
    wait_for(lambda: running.poll() is not None or len(images(stream_environment, rows)) == len(LABELS), SECONDS)
    before = parquet_rows(stream_environment, rows)["rows"]
    assert {Path(row["image"]).stem: row["top5"][0]["label"] for row in before} == LABELS

    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    data = encoded(photographs()["motorcycle"], ".jpg")
    (photos / "new").mkdir()
    with (photos / "new" / "half.jpg").open("wb") as file:
        # It grows between any two looks, until it is whole.
        for start in range(0, len(data), len(data) // 6):
            file.write(data[start : start + len(data) // 6])
            file.flush()
            (photos / "chelsea.jpg").touch()
            time.sleep(0.4)
    wait_for(lambda: running.poll() is not None or "new/half.jpg" in images(stream_environment, rows), SECONDS)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=SECONDS)

    assert running.returncode == 0, said
    assert images(stream_environment, rows) == sorted([*(row["image"] for row in before), "new/half.jpg"])
    assert parquet_rows(stream_environment, rows)["top5"] == "list<element: struct<label: string, probability: float>>"
    assert [path.suffix for path in rows.iterdir()] == [".parquet"] * len(list(rows.iterdir()))
    watching, reason, summary = said.splitlines()
    assert watching == f"Watching {photos} until Ctrl-C."
    assert reason.startswith("broken.png is not ")
    assert summary.startswith("4 images, 1 broken, ")
