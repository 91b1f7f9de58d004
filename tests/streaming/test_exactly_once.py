"""A task manager dies in the middle of 2,000 photographs, on a real cluster with three of them."""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import pytest

from tests.conftest import wait_for
from tests.photos import crops, encoded, photographs
from tests.streaming.cluster import SMALL, FlinkCluster

IMAGES = 2000
KNOWN = {"chelsea": "Egyptian_cat", "coffee": "espresso", "camera": "tripod", "motorcycle": "moped"}
BROKEN = "broken.jpg"
# Rows in finished files when the task manager is killed: a middle, and far from the end.
COMMITTED = 300
# A killed task manager is missed in seconds; Flink's own 50 are for networks.
HEARTBEATS = {"heartbeat.interval": "1 s", "heartbeat.timeout": "8 s"}
RUN_SECONDS = 600


@dataclass
class Outcome:
    """What the killed run left. `committed`: rows in finished files as the task manager was killed; `failures`: the
    first line of what made Flink start tasks again; `restored`: the checkpoint that it did so from."""

    killed: str
    committed: int
    failures: list[str]
    restored: str
    checkpoints: str
    said: subprocess.CompletedProcess[str]
    output: Path
    broken: Path


def write_photographs(folder: Path) -> set[str]:
    """2,000 small JPEGs of different names, and one file that is no image; the names of the former."""
    folder.mkdir()
    photos = {name: encoded(_small(photographs()[name]), ".jpg") for name in KNOWN}
    squares = [encoded(_small(square), ".jpg") for square in crops(40)]
    photos |= {f"crop-{index:04}": squares[index % len(squares)] for index in range(IMAGES - len(photos))}
    for name, data in photos.items():
        (folder / f"{name}.jpg").write_bytes(data)
    (folder / BROKEN).write_bytes(squares[0][:300])
    return {f"{name}.jpg" for name in photos}


def _small(photo: Any) -> Any:
    scale = 256 / min(photo.shape[:2])
    return cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def finished(folder: Path) -> list[dict[str, Any]]:
    """The rows of all files that are not in progress, hidden ones left out."""
    files = [file for file in folder.rglob("*.jsonl") if not any(part.startswith(".") for part in file.parts)]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def running(client: "subprocess.Popen[str]") -> bool:
    assert client.poll() is None, client.communicate()
    return True


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    folder = tmp_path_factory.mktemp("photographs") / "images"
    return folder, write_photographs(folder)


@pytest.fixture(scope="module")
def outcome(
    names: tuple[Path, set[str]], model: Path, stream_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcome]:
    """The job waits for its task managers until the model's folder is gone. One that is killed is replaced by a fresh
    one, as systemd or Kubernetes would; until then the job, which needs all three slots, waits again."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(model, folder / "model")
    output, broken = folder / "output", folder / "broken"
    checkpoints = (folder / "checkpoints").as_uri()
    settings = {**SMALL, **HEARTBEATS, "execution.checkpointing.dir": checkpoints}
    cluster = FlinkCluster(stream_environment, folder, settings)
    command = [stream_environment, "-m", "visionserve.streaming", "-m", cluster.address, "-p", 3]
    command += ["--imageFolder", names[0], "--checkpointPath", folder / "model", "--threads", 1]
    command += ["--output", output, "--broken", broken, "--checkpointInterval", "2s"]
    try:
        cluster.start(task_managers=0)
        client = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *map(str, command)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: running(client) and cluster.get("/jobs")["jobs"], RUN_SECONDS)
        (folder / "model").rename(folder / "gone")
        for _ in range(3):
            cluster.start_task_manager()
        wait_for(lambda: running(client) and len(finished(output)) >= COMMITTED, RUN_SECONDS)
        [victim, *_] = cluster.busy()
        victim.kill()
        committed = len(finished(output))
        cluster.start_task_manager()
        job = cluster.get("/jobs")["jobs"][0]["id"]
        said = client.communicate(timeout=RUN_SECONDS)
        failures = cluster.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
        yield Outcome(
            victim.name,
            committed,
            [failure["stacktrace"].splitlines()[0] for failure in failures],
            cluster.get(f"/jobs/{job}/checkpoints")["latest"]["restored"]["external_path"],
            checkpoints,
            subprocess.CompletedProcess(command, client.returncode, *said),
            output,
            broken,
        )
    finally:
        cluster.stop()


def test_the_task_manager_died_in_the_middle_and_the_job_went_on_from_a_checkpoint(outcome: Outcome) -> None:
    assert outcome.said.returncode == 0, outcome.said.stderr
    assert COMMITTED <= outcome.committed < IMAGES * 3 / 4
    assert f"TaskManager with id {outcome.killed} is no longer reachable." in " ".join(outcome.failures)
    assert outcome.restored.removeprefix("file:").startswith(outcome.checkpoints.removeprefix("file://"))


def test_every_image_is_in_the_output_exactly_once(outcome: Outcome, names: tuple[Path, set[str]]) -> None:
    counts = Counter(row["image"] for row in finished(outcome.output))
    assert set(counts) == names[1]
    assert set(counts.values()) == {1}


def test_no_file_is_left_in_progress(outcome: Outcome) -> None:
    left = [file for file in outcome.output.rglob("*") if file.is_file() and file.suffix != ".jsonl"]
    assert left == []


def test_the_labels_are_right(outcome: Outcome) -> None:
    rows = {row["image"]: row["top5"] for row in finished(outcome.output)}
    assert {name: rows[f"{name}.jpg"][0]["label"] for name in KNOWN} == KNOWN
    assert all(len(top5) == 5 for top5 in rows.values())
    # The same picture under another name, on another task manager.
    assert all(rows[f"crop-{index:04}.jpg"][0]["label"] == rows[f"crop-{index + 40:04}.jpg"][0]["label"]
               for index in range(IMAGES - 40 - len(KNOWN)))  # fmt: skip


def test_a_broken_picture_is_in_the_side_output_once_with_its_reason(outcome: Outcome) -> None:
    [row] = finished(outcome.broken)
    assert row["image"] == BROKEN
    assert "image" in row["error"]
