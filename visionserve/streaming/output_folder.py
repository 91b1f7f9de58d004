import fcntl
import json
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import orjson

from visionserve.errors import DeploymentError, UsageError
from visionserve.streaming.parquet import SUFFIX, image_names, row_count, write_parquet
from visionserve.streaming.rest_client import FlinkRest

PART = "part-*"
LINES = ".jsonl"
# Readers of Parquet folders pass over names that begin so.
LINES_FOLDER = "_lines"
JOB = "_job.json"


class OutputFolder:
    """A folder that a job's rows come into, as files of JSON lines or, made of those, of Parquet.

    It belongs to one run at a time: the run holds a lock on a file in it, which also tells the job.
    """

    def __init__(self, option: str, folder: Path, parquet: bool = False) -> None:
        """`option`: as which the folder was given."""
        self.path = folder.absolute()
        self.parquet = parquet
        self._option = option
        self._lock: IO[str] | None = None

    @property
    def lines(self) -> Path:
        """Where Flink writes."""
        return self.path / LINES_FOLDER if self.parquet else self.path

    def take(self, resume: bool) -> None:
        """Makes it this run's, and removes what an earlier one did not finish.

        Raises UsageError where it cannot be written, holds files and this run is not to `resume`, or where another run
        writes to it.
        """
        try:
            self._take(resume)
        except OSError as error:
            raise UsageError(f"{self._option} {self.path} cannot be used: {error.strerror}.") from error

    def tell_job(self, cluster: str, job: str) -> None:
        """For a later run: a job on a cluster goes on when this process is killed."""
        assert self._lock is not None
        self._lock.seek(0)
        self._lock.truncate()
        json.dump({"cluster": cluster, "job": job}, self._lock)
        self._lock.flush()

    def convert(self) -> None:
        """Makes Parquet files of the lines that have been finished since the last call."""
        if self.parquet:
            for file in self._files(self.lines, LINES):
                write_parquet(file, self.path)

    def images(self) -> set[str]:
        """The names of the images of all finished rows."""
        files = self._files(self.lines, LINES)
        names = {orjson.loads(line)["image"] for file in files for line in file.read_bytes().splitlines()}
        return names.union(*(image_names(file) for file in self._files(self.path, SUFFIX)))

    def count(self) -> int:
        """Finished rows."""
        lines = sum(file.read_bytes().count(b"\n") for file in self._files(self.lines, LINES))
        return lines + sum(row_count(file) for file in self._files(self.path, SUFFIX))

    def release(self, ended: bool) -> None:
        """Gives it free for other runs. When the job has `ended`, however it did, what it did not finish is removed."""
        if self._lock is None:
            return
        if ended:
            self._remove_unfinished()
            if self.parquet and not any(self.lines.iterdir()):
                self.lines.rmdir()
            (self.path / JOB).unlink(missing_ok=True)
        self._lock.close()
        self._lock = None

    def _take(self, resume: bool) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if not resume and any(path.name != JOB for path in self.path.iterdir()):
            raise UsageError(
                f"{self._option} {self.path} is not empty: name another folder, or add --resume to classify only the "
                f"images that it does not hold yet."
            )
        other = LINES if self.parquet else SUFFIX
        if any(self._files(self.path, other)):
            raise UsageError(f"{self._option} {self.path} holds {other} files: go on in the same --format.")
        lock = (self.path / JOB).open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._check_no_job(lock)
        except BaseException as error:
            lock.close()
            if isinstance(error, BlockingIOError):
                raise UsageError(f"Another run is writing to {self._option} {self.path}.") from error
            raise
        self._lock = lock
        self.lines.mkdir(exist_ok=True)
        self._remove_unfinished()

    def _check_no_job(self, lock: IO[str]) -> None:
        lock.seek(0)
        try:
            text = lock.read()
            if not text:
                return
            cluster, job = operator.itemgetter("cluster", "job")(json.loads(text))
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{self.path / JOB}, in the folder of {self._option}, does not tell the job that it was written for: "
                f"remove it if no job writes to that folder."
            ) from error
        remedy = f"remove {self.path / JOB} if it is gone"
        try:
            runs = FlinkRest(cluster).runs(job)
        except DeploymentError as error:
            raise UsageError(
                f"Job {job} on {cluster} wrote to {self._option} {self.path}, and that cluster does not answer: start "
                f"it, or {remedy}."
            ) from error
        if runs:
            raise UsageError(
                f"Job {job} on {cluster} still writes to {self._option} {self.path}: wait for it or cancel it."
            )

    def _remove_unfinished(self) -> None:
        for file in self.lines.glob(f".{PART}{LINES}.inprogress.*"):
            file.unlink()
        # What was cut off while it was written, here or by Parquet's conversion.
        for file in self.path.glob(f".{PART}{SUFFIX}.*"):
            file.unlink()

    @staticmethod
    def _files(folder: Path, suffix: str) -> Iterator[Path]:
        """Finished ones; a copy, as they come and go."""
        if folder.is_dir():
            yield from sorted(folder / name for name in os.listdir(folder) if Path(name).match(PART + suffix))
