"""Prometheus metrics of an API: of one process, or summed over its processes through a folder that they share."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionserve import __version__, metrics_folder
from visionserve.inference import metrics as batch_metrics

REQUESTS = "visionserve_requests"
SECONDS = "visionserve_request_seconds"
IN_FLIGHT = "visionserve_requests_in_flight"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# Why a request was answered 503: at max_replica_concurrency; with the engine's queue full; with no model server; at
# the end of the grace.
REASONS = ("concurrency", "queue", "model_server", "stopping")


class RequestMetrics:
    """What the process that answers requests records of them."""

    def __init__(self, api: str, engine: str | None) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = CollectorRegistry()
        of_registry: dict[str, Any] = {"registry": self._registry}
        self.requests = Counter(REQUESTS, "Answered requests by HTTP status code.", ["code"], **of_registry)
        rejected = Counter(
            "visionserve_requests_rejected", "Requests answered 503, by reason.", ["reason"], **of_registry
        )
        self._rejected = {reason: rejected.labels(reason) for reason in REASONS}
        self.seconds = Histogram(
            SECONDS, "Seconds from a request's head to its answer.", buckets=BUCKETS, **of_registry
        )
        self.in_flight = Gauge(IN_FLIGHT, "Requests in flight.", multiprocess_mode="livesum", **of_registry)
        build = Gauge(
            "visionserve_build_info",
            "What answers: always 1.",
            ["api", "version", "engine", "python"],
            multiprocess_mode="livemax",
            **of_registry,
        )
        build.labels(api, __version__, engine or "none", platform.python_version()).set(1)

    def refuse(self) -> None:
        """A request without one of the API's keys."""
        self.requests.labels("401").inc()

    def reject(self, reason: str) -> None:
        """`reason`: one of REASONS."""
        self._rejected[reason].inc()

    def exposition(self, model_server_up: bool | None) -> tuple[bytes, str]:
        """All metrics in Prometheus's text format, and its content type. `model_server_up`: None without one."""
        from prometheus_client import generate_latest

        batches, content_type = batch_metrics.exposition()
        return generate_latest(self._registry) + batches + _up(model_server_up), content_type


class WorkerMetrics(RequestMetrics):
    """One worker's of several, which metrics_folder.keep_in has told where to keep them."""

    def __init__(self, folder: Path, api: str, engine: str | None) -> None:
        super().__init__(api, engine)
        self._folder = folder

    def exposition(self, model_server_up: bool | None) -> tuple[bytes, str]:
        """All processes' metrics; where the folder could not be used, this one's."""
        from prometheus_client import CONTENT_TYPE_LATEST

        if not metrics_folder.is_used():
            return super().exposition(model_server_up)

        return _text(metrics_folder.collect(self._folder)) + _up(model_server_up), CONTENT_TYPE_LATEST


class ProcessMetrics:
    """What a supervisor records of the processes that it keeps."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        of_each: dict[str, Any] = {"labelnames": ["process"], "registry": CollectorRegistry()}
        self._restarts = Counter(
            "visionserve_process_restarts", "Processes that ended and were started again.", **of_each
        )
        self._started = Gauge(
            "visionserve_process_start_time_seconds",
            "When a process was started, in seconds since 1970.",
            multiprocess_mode="livemax",
            **of_each,
        )

        self._known: set[str] = set()

    def start(self, process: str) -> None:
        """A process is started: for the first time, or again under the same name."""
        self._restarts.labels(process).inc(process in self._known)
        self._known.add(process)
        self._started.labels(process).set_to_current_time()


@dataclass(frozen=True)
class RequestTotals:
    """Requests by status class ("2xx", ...) and the mean latency in seconds of all of them."""

    by_class: dict[str, int]
    mean_latency: float | None


def totals(folder: Path) -> RequestTotals:
    by_class = dict.fromkeys(("2xx", "4xx", "5xx"), 0)
    seconds = count = 0.0
    for metric in metrics_folder.collect(folder):
        for sample in metric.samples:
            if sample.name == f"{REQUESTS}_total":
                status_class = f"{sample.labels['code'][0]}xx"
                by_class[status_class] = by_class.get(status_class, 0) + int(sample.value)
            elif sample.name == f"{SECONDS}_sum":
                seconds = sample.value
            elif sample.name == f"{SECONDS}_count":
                count = sample.value
    return RequestTotals(by_class, seconds / count if count else None)


def _up(model_server_up: bool | None) -> bytes:
    from prometheus_client.core import GaugeMetricFamily

    if model_server_up is None:
        return b""
    sentence = "Whether the model server answers."
    return _text([GaugeMetricFamily("visionserve_model_server_up", sentence, float(model_server_up))])


def _text(metrics: list[Any]) -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Collected(Collector):
        def collect(self) -> list[Any]:
            return metrics

    registry = CollectorRegistry()
    registry.register(Collected())
    return generate_latest(registry)
