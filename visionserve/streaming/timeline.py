import json
import threading
import urllib.request
from pathlib import Path
from typing import Any

from visionserve.errors import VisionserveError
from visionserve.files import write_atomically
from visionserve.streaming.job_record import JobRecord
from visionserve.streaming.timeline_picture import paint

INTERVAL = 1.0
TIMEOUT = 10.0
ENDED = {"CANCELED", "FAILED", "FINISHED"}
OPERATOR = "classif"


class TimelineSampler:
    """Watches a Flink job over its REST API and paints what it saw: its tasks, checkpoints, failures and images/s.

    Flink itself looks at its task managers' counts every metrics.fetcher.update-interval only, 10 s unless it is set.
    """

    def __init__(self, base_url: str, job_id: str, operator: str = OPERATOR, interval: float = INTERVAL) -> None:
        """`base_url`: http://HOST:PORT of the REST API; `operator`: in any case a part of the name of the vertex whose
        records are images; `interval`: between two samples, in seconds.
        """
        self.record = JobRecord(operator)
        self._url = f"{base_url.rstrip('/')}/jobs/{job_id}"
        self._job_id = job_id
        self._interval = interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="timeline", daemon=True)
        # A cluster is asked directly, whatever proxy is set for the world outside.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        """Waits for the job's end, `timeout` seconds at most."""
        self._thread.join(timeout)

    def stop(self) -> None:
        """After a last sample, if the job had not ended before. May be called again."""
        self._stopped.set()
        self._thread.join()

    def write(self, path: Path) -> None:
        """A PNG, there whole or not at all. Raises VisionserveError where nothing was seen of the job, MissingError
        without matplotlib, OSError where `path` cannot be written."""
        if not self.record.counts:
            raise VisionserveError(f"Nothing was seen of job {self._job_id} at {self._url}: it has no time line.")
        write_atomically(path, paint(self.record))

    def _run(self) -> None:
        last = False
        while not last:
            last = self._stopped.wait(self._interval)
            self._sample()
            last = last or self.record.state in ENDED

    def _sample(self) -> None:
        try:
            job = self._get("")
            vertices = [self._get(f"/vertices/{vertex['id']}") for vertex in job["vertices"]]
            self.record.observe(job, vertices, self._get("/checkpoints"), self._get("/exceptions"))
        except (OSError, ValueError):
            # It is asked again in a second. An embedded cluster goes with its job, a job manager may come back.
            return

    def _get(self, path: str) -> Any:
        with self._opener.open(self._url + path, timeout=TIMEOUT) as answer:
            return json.load(answer)
