"""A run of LoadGen as a document, schema "visionserve.bench.mlperf/1": docs/benchmark.md says what each key means."""

from dataclasses import asdict, dataclass

import orjson

from visionserve.bench.figures.machine import Machine
from visionserve.bench.mlperf.logs import LoadGenSummary

SCHEMA = "visionserve.bench.mlperf/1"
VALID = "VALID"


@dataclass(frozen=True)
class Settings:
    """What was asked for. None is MLPerf's own value; the effective one is in loadgen.parameters."""

    endpoint: str
    payload: str
    images: int
    images_per_request: int
    samples_per_query: int
    clients: int
    min_seconds: float | None
    min_queries: int | None
    target_rate: float | None
    latency_limit_ms: float | None
    expect: str | None
    timeout_s: float


@dataclass(frozen=True)
class Accuracy:
    """Over all images; one that was not served counts as wrong."""

    images: int
    top1_correct: int
    top5_correct: int
    top1: float
    top5: float


@dataclass(frozen=True)
class ScenarioResult:
    """What LoadGen measured, and what it cannot know: which samples were served.

    `errors` count failed samples by kind; `not_sent` are those failed at once after the endpoint stopped answering.
    `loadgen` is None when LoadGen was ended before it had a summary.
    """

    schema: str
    started: str
    duration_s: float
    scenario: str
    mode: str
    settings: Settings
    machine: Machine
    loadgen_version: str
    loadgen: LoadGenSummary | None
    samples: int
    served: int
    requests: int
    errors: dict[str, int]
    error_examples: dict[str, str]
    not_sent: int
    waited_for_connection: int
    bytes_sent: int
    bytes_received: int
    client_cpu_s: float
    accuracy: Accuracy | None
    interrupted: bool
    gave_up: bool
    log_dir: str
    log_files: list[str]
    notes: list[str]

    @property
    def failed(self) -> int:
        return sum(self.errors.values()) + self.not_sent

    @property
    def ok(self) -> bool:
        """LoadGen ended by itself and every sample was served; whether MLPerf's conditions were met is `valid`."""
        return self.loadgen is not None and not self.interrupted and not self.gave_up and not self.failed

    @property
    def valid(self) -> bool:
        """LoadGen, which takes a failed sample for a fast one, says VALID, and no sample failed."""
        return self.ok and self.loadgen is not None and self.loadgen.verdict == VALID


def to_json(result: ScenarioResult) -> bytes:
    document = asdict(result) | {"failed": result.failed, "ok": result.ok, "valid": result.valid}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
