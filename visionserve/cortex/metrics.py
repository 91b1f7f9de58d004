"""Prometheus metrics of an API: of one process, or summed over worker processes through a folder that they share."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
REQUESTS = "visionserve_requests"
SECONDS = "visionserve_request_seconds"
IN_FLIGHT = "visionserve_requests_in_flight"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class RequestMetrics:
    """What the process that answers requests records of them."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = CollectorRegistry()
        of_registry: dict[str, Any] = {"registry": self._registry}
        self.requests = Counter(REQUESTS, "Answered requests by HTTP status code.", ["code"], **of_registry)
        self.seconds = Histogram(
            SECONDS, "Seconds from a request's head to its answer.", buckets=BUCKETS, **of_registry
        )
        self.in_flight = Gauge(IN_FLIGHT, "Requests in flight.", multiprocess_mode="livesum", **of_registry)

    def exposition(self) -> tuple[bytes, str]:
        """The metrics in Prometheus's text format, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class WorkerMetrics(RequestMetrics):
    """One worker's of several. The environment must name `folder` before prometheus_client is imported."""

    def __init__(self, folder: Path) -> None:
        assert os.environ[MULTIPROCESS_FOLDER] == str(folder)
        super().__init__()
        self._folder = folder

    def exposition(self) -> tuple[bytes, str]:
        """All workers' metrics."""
        return exposition(self._folder)


@dataclass(frozen=True)
class RequestTotals:
    """Requests by status class ("2xx", ...) and the mean latency in seconds of all of them."""

    by_class: dict[str, int]
    mean_latency: float | None


def exposition(folder: Path) -> tuple[bytes, str]:
    """All workers' metrics in Prometheus's text format, and its content type."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    return generate_latest(registry), CONTENT_TYPE_LATEST


def totals(folder: Path) -> RequestTotals:
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    by_class = dict.fromkeys(("2xx", "4xx", "5xx"), 0)
    seconds = count = 0.0
    if folder.is_dir():
        for metric in MultiProcessCollector(CollectorRegistry(), path=str(folder)).collect():
            for sample in metric.samples:
                if sample.name == f"{REQUESTS}_total":
                    status_class = f"{sample.labels['code'][0]}xx"
                    by_class[status_class] = by_class.get(status_class, 0) + int(sample.value)
                elif sample.name == f"{SECONDS}_sum":
                    seconds = sample.value
                elif sample.name == f"{SECONDS}_count":
                    count = sample.value
    return RequestTotals(by_class, seconds / count if count else None)


def forget_process(folder: Path, pid: int) -> None:
    """Drops a dead worker's gauges; its counters stay in the sums."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, path=str(folder))
