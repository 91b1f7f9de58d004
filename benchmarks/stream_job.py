"""`visionserve.streaming` on a standalone Flink cluster of this machine that stays up and idle between jobs."""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from deployment import REPOSITORY, write_photo
from load import LoadError, last_line
from stream_costs import Costs, cpu_ms_per_image

from visionserve.streaming.timeline import TimelineSampler

sys.path.insert(0, str(REPOSITORY))
from tests.streaming.cluster import SMALL, FlinkCluster

START_S = 120
# Each sample asks the job manager five times, at the job's cost.
SAMPLE_S = 2.0
# All tasks run; their first batches are behind them.
SETTLE_S = 3.0


@dataclass
class Job:
    """A job that has ended well. `costs`: every SAMPLE_S while it ran."""

    sampler: TimelineSampler
    costs: list[Costs]

    @property
    def images_per_s(self) -> float:
        """The slope of images over time in the steady part."""
        start, end = self._steady()
        steady = [(at, images) for at, images in self.sampler.record.counts if start <= at <= end]
        if len(steady) < 5:
            raise LoadError(f"the steady part of the job has only {len(steady)} samples; let it have more --images")
        return statistics.linear_regression(*zip(*steady, strict=True)).slope

    def cpu_ms(self) -> dict[str, float]:
        """Kind of process -> CPU ms of one image in the steady part."""
        start, end = self._steady()
        steady = [each for each in self.costs if start <= each.at <= end]
        return cpu_ms_per_image(steady[0], steady[-1])

    def _steady(self) -> tuple[float, float]:
        """While all tasks classify: Java's start, the models' loading and what the last task does alone are out."""
        tasks = self.sampler.record.classifying()
        return max(task.ready for task in tasks) + SETTLE_S, min(task.end for task in tasks)


class StreamCluster:
    def __init__(self, cluster: FlinkCluster, python: Path, images: Path, folder: Path) -> None:
        self._cluster, self._python, self._images, self._folder = cluster, python, images, folder
        self._jobs = 0

    def run(self, parallelism: int, threads: int) -> Job:
        """Classifies all images."""
        self._jobs += 1
        output = self._folder / f"output-{self._jobs}"
        command = [self._python, "-m", "visionserve.streaming", "-m", self._cluster.address, "-p", parallelism]
        command += ["--threads", threads, "--imageFolder", self._images, "--output", output / "rows"]
        command += ["--broken", output / "broken", "--checkpointPath", REPOSITORY / "models" / "resnet50"]
        with tempfile.TemporaryFile("w+") as log:
            client = psutil.Popen([str(word) for word in command], cwd=REPOSITORY, stdout=log, stderr=log)
            try:
                sampler = TimelineSampler(f"http://{self._cluster.address}", self._job(client), interval=SAMPLE_S)
                sampler.start()
                costs = []
                while client.poll() is None:
                    processes = [*self._processes(), client, *client.children(recursive=True)]
                    costs.append(Costs.of(sampler.record.images, processes))
                    time.sleep(SAMPLE_S)
                sampler.stop()
            finally:
                if client.poll() is None:
                    client.terminate()
                    client.wait()
            if client.returncode:
                log.seek(0)
                raise LoadError(f"the job ended with status {client.returncode}: {last_line(log.read())}")
        return Job(sampler, costs)

    def busy(self, seconds: float) -> float:
        """The cluster's share of one core over so many seconds."""
        before = self._cpu_seconds()
        time.sleep(seconds)
        return (self._cpu_seconds() - before) / seconds

    def _cpu_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        nodes = [node.pid for node in self._cluster.nodes]
        return [process for pid in nodes for process in psutil.Process(pid).children(recursive=True)]

    def _job(self, client: psutil.Popen) -> str:
        """The id of the job that the client has just sent."""
        deadline = time.monotonic() + START_S
        while client.poll() is None and time.monotonic() < deadline:
            jobs = self._cluster.get("/jobs")["jobs"]
            if len(jobs) == self._jobs:
                return next(job["id"] for job in jobs if job["status"] not in ("FINISHED", "FAILED", "CANCELED"))
            time.sleep(0.1)
        raise LoadError(f"no job came to the cluster (the client's status: {client.returncode})")


@contextmanager
def stream_cluster(python: Path, images: int, task_managers: int) -> Iterator[StreamCluster]:
    """`python`: of the stream's environment. Up and idle; all jobs get the same `images` of 640x427."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        write_photo(folder / "images" / "0.jpg")
        for number in range(1, images):
            (folder / "images" / f"{number}.jpg").hardlink_to(folder / "images" / "0.jpg")
        cluster = FlinkCluster(python, folder / "cluster", {**SMALL, "metrics.fetcher.update-interval": "500 ms"})
        try:
            cluster.start(task_managers)
            yield StreamCluster(cluster, python, folder / "images", folder)
        finally:
            cluster.stop()
