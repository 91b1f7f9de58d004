"""What a process's batchers record for Prometheus: in its own memory, or where PROMETHEUS_MULTIPROC_DIR is set as
prometheus_client is imported, in files of that folder, for another process to show."""

import functools
from collections.abc import Sequence
from typing import Any

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class BatchMetrics:
    """Of one model, in all its versions. To be called from any thread."""

    def __init__(self, model: str) -> None:
        families = _families()
        self._waiting = families.waiting.labels(model)
        self._waits = families.waits.labels(model)
        self._rows = families.rows.labels(model)
        self._seconds = families.seconds.labels(model)

    def wait(self, requests: int) -> None:
        """So many more requests wait for the engine; fewer, where it is negative."""
        self._waiting.inc(requests)

    def take(self, waited: Sequence[float]) -> None:
        """The engine takes requests that have waited so many seconds."""
        self._waiting.dec(len(waited))
        for seconds in waited:
            self._waits.observe(seconds)

    def run(self, rows: int, seconds: float) -> None:
        """The engine has answered a batch."""
        self._rows.observe(rows)
        self._seconds.observe(seconds)


def exposition() -> tuple[bytes, str]:
    """What this process has in its memory, and what the system says of it, in Prometheus's text format, and its content
    type."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return generate_latest(_families().registry), CONTENT_TYPE_LATEST


class _Families:
    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector

        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        of_each: dict[str, Any] = {"labelnames": ["model"], "registry": self.registry}
        self.waiting = Gauge(
            "visionserve_queue_depth", "Requests that wait for the engine.", multiprocess_mode="livesum", **of_each
        )
        self.waits = Histogram(
            "visionserve_queue_seconds", "Seconds that a request waited for the engine.", buckets=SECONDS, **of_each
        )
        self.rows = Histogram("visionserve_batch_size", "Rows (images) of a batch.", buckets=ROWS, **of_each)
        self.seconds = Histogram(
            "visionserve_engine_seconds", "Seconds that the engine took for a batch.", buckets=SECONDS, **of_each
        )


@functools.cache
def _families() -> _Families:
    return _Families()
