from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from visionserve.bench.mlperf.labeled import labeled_images
from visionserve.bench.transport.endpoint import Endpoint
from visionserve.bench.workload.images import image_files, load_images
from visionserve.bench.workload.payloads import PayloadFormat
from visionserve.bench.workload.workload import Workload
from visionserve.errors import UsageError

# What MLPerf asks of a MultiStream query.
MULTI_STREAM_SAMPLES = 8


class Scenario(str, Enum):
    """Who asks, in MLPerf's terms (https://arxiv.org/abs/1911.02549, table II): one user after the other, a few
    cameras at once, many users at random times, or a whole archive in one go."""

    SINGLE_STREAM = "SingleStream"
    MULTI_STREAM = "MultiStream"
    SERVER = "Server"
    OFFLINE = "Offline"


# An image as it is sent, or the file that holds it and is read only while LoadGen asks for it.
Image = bytes | Path


@dataclass(frozen=True)
class ScenarioSettings:
    """One run of LoadGen. What is None is MLPerf's own value for ResNet50 (mlperf.conf inside LoadGen).

    `workload` says how requests are made; their images are `images`. `target_rate` is in queries/s: what Server
    schedules, and what Offline expects when it decides how many samples fill `min_seconds`. `latency_limit_ms` is
    Server's bound at p99. `labels` are those of `images`, for a run that measures accuracy instead of speed.
    """

    scenario: Scenario
    workload: Workload
    images: tuple[Image, ...]
    clients: int
    timeout_s: float
    log_dir: Path
    min_seconds: float | None = None
    min_queries: int | None = None
    target_rate: float | None = None
    latency_limit_ms: float | None = None
    samples_per_query: int = 1
    labels: tuple[str, ...] | None = None

    @property
    def accuracy(self) -> bool:
        return self.labels is not None

    @property
    def timed(self) -> bool:
        """Whether LoadGen asks until a time is over, and not for a number of samples."""
        if self.accuracy:
            return self.scenario is Scenario.SERVER
        return self.scenario is not Scenario.OFFLINE


def scenario_settings(
    scenario: str,
    source: str,
    endpoint: Endpoint,
    payload: PayloadFormat,
    *,
    clients: int = 1,
    batch_size: int | None = None,
    expect: str | None = None,
    min_seconds: float | None = None,
    min_queries: int | None = None,
    target_rate: float | None = None,
    latency_limit_ms: float | None = None,
    accuracy: bool = False,
    log_dir: Path = Path(),
    timeout_s: float = 60.0,
) -> ScenarioSettings:
    """What the command's options ask for; `source` is IMG_URL, with `accuracy` a folder of labeled images.

    `batch_size` is the samples of a MultiStream query, and the images of an Offline request.

    Raises UsageError for what the scenario does not take or lacks, and for images or labels that cannot be read.
    """
    kind = Scenario(scenario)
    one_at_a_time = kind in (Scenario.SINGLE_STREAM, Scenario.SERVER)
    if kind is Scenario.SINGLE_STREAM and clients > 1:
        raise UsageError("--scenario SingleStream sends one query after the other: leave out -t, or take MultiStream.")
    if one_at_a_time and batch_size is not None and batch_size > 1:
        raise UsageError(
            f"--scenario {scenario} sends one image a query: leave out -b, or take MultiStream or Offline."
        )
    if kind is Scenario.SERVER and target_rate is None:
        raise UsageError("--scenario Server needs the queries/s that it is to schedule: add --rate.")
    if kind not in (Scenario.SERVER, Scenario.OFFLINE) and target_rate is not None:
        raise UsageError(
            f"--scenario {scenario} has no rate, each query waits for the one before it: leave out --rate."
        )
    if kind is not Scenario.SERVER and latency_limit_ms is not None:
        raise UsageError(f"--scenario {scenario} has no bound of latency: leave out --slo, or take Server.")
    if kind is Scenario.OFFLINE and (batch_size or 1) > 1 and not payload.several:
        raise UsageError(f"--payload {payload.name} holds one image: leave out -b, or send --payload imgs.")
    if accuracy and payload.name == "tfserving":
        raise UsageError(
            "--accuracy needs answers of five labels, which --payload tfserving has not: take imgs or raw."
        )
    if accuracy and expect is not None:
        raise UsageError("--accuracy does not go with --expect: each image of the folder has a label of its own.")
    labeled = labeled_images(source) if accuracy else None
    samples_per_query = (batch_size or MULTI_STREAM_SAMPLES) if kind is Scenario.MULTI_STREAM else 1
    images_per_request = samples_per_query if kind is Scenario.MULTI_STREAM else batch_size or 1
    return ScenarioSettings(
        scenario=kind,
        workload=Workload(endpoint, (), payload, images_per_request if payload.several else 1, expect),
        images=_images(source) if labeled is None else tuple(labeled),
        clients=clients,
        timeout_s=timeout_s,
        log_dir=log_dir,
        min_seconds=min_seconds,
        min_queries=min_queries,
        target_rate=target_rate,
        latency_limit_ms=latency_limit_ms,
        samples_per_query=samples_per_query,
        labels=None if labeled is None else tuple(labeled.values()),
    )


def _images(source: str) -> tuple[Image, ...]:
    folder = Path(source).expanduser()
    return tuple(image_files(folder)) if "://" not in source and folder.is_dir() else tuple(load_images(source))
