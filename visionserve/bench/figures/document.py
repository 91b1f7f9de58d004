"""A run's figures as a file, schema "visionserve.bench/1": docs/benchmark.md says what each key means."""

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import orjson

from visionserve.bench.figures.machine import Machine, this_machine
from visionserve.bench.figures.metrics import Metrics
from visionserve.bench.load.plan import Plan
from visionserve.errors import UsageError

SCHEMA = "visionserve.bench/1"
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Settings:
    """What was asked for. `loop` is closed or open; `clients` are connections, of all workers together, and in an open
    loop the most that may be open."""

    endpoint: str
    loop: str
    workers: int
    clients: int
    samples: int | None
    seconds: float | None
    warmup_s: float
    rate: float | None
    arrivals: str | None
    payload: str
    batch_size: int
    images: int
    image_bytes: int
    expect: str | None
    timeout_s: float


@dataclass(frozen=True)
class SloAnswer:
    """The highest rate, in requests/s, at which `percentile` stayed within `limit_ms`, as far as it was searched.

    `rate` is None when no rate tried met it. `failing_rate` is the lowest rate tried that did not; None when every one
    did, and with `client_limited` it is the client's limit and not the server's. `requests`, `over_limit` (failed
    requests among them) and `repeats` (trials of `trial_s` seconds) are of all trials at `rate`, or without one at the
    lowest rate tried. `confidence` is the probability that no more than the allowed share of requests is over the
    limit at `rate`, as far as `requests` independent requests can tell. `doubts` has one sentence for each reason not
    to trust the answer; a search that was not `complete` ended early.
    """

    percentile: float
    limit_ms: float
    rate: float | None
    failing_rate: float | None
    requests: int
    over_limit: int
    confidence: float | None
    repeats: int
    repeats_met: int
    trial_s: float
    client_limited: bool
    complete: bool
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class Run(Metrics):
    """One run with all that is known of it. A sweep is the run that answers its question, with its `steps`."""

    schema: str
    started: str
    settings: Settings
    machine: Machine
    price_per_hour: float | None = None
    cost_per_million: float | None = None
    steps: tuple["Run", ...] = ()
    slo: SloAnswer | None = None


def document(metrics: Metrics, plan: Plan, started: datetime, price_per_hour: float | None = None) -> Run:
    return Run(
        **{name: getattr(metrics, name) for name in Metrics.__dataclass_fields__},
        schema=SCHEMA,
        started=started.astimezone(timezone.utc).isoformat(timespec="seconds"),
        settings=_settings(plan),
        machine=this_machine(),
        price_per_hour=price_per_hour,
        cost_per_million=cost_per_million(metrics.inferences_per_s, price_per_hour),
    )


def cost_per_million(inferences_per_s: float, price_per_hour: float | None) -> float | None:
    """What a million inferences cost, in the currency of the price, at this rate."""
    if price_per_hour is None or not inferences_per_s:
        return None
    return price_per_hour / (inferences_per_s * SECONDS_PER_HOUR) * 1e6


def to_json(run: Run) -> bytes:
    return orjson.dumps(asdict(run), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def read(path: Path) -> Run:
    """Raises UsageError when the file at `path` is not of this schema."""
    from pydantic import TypeAdapter, ValidationError

    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}.") from error
    try:
        schema = orjson.loads(data).get("schema")
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise UsageError(f"{path} is no result of throughput_test.py --json: it is not a JSON object.") from error
    if schema != SCHEMA:
        raise UsageError(f'{path} is no result that this version reads: its "schema" is {schema!r}, not "{SCHEMA}".')
    try:
        return TypeAdapter(Run).validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path} is no {SCHEMA} document: {place}: {first['msg'].lower()}.") from error


def _settings(plan: Plan) -> Settings:
    pacer, workload = plan.pacer, plan.workload
    return Settings(
        endpoint=str(plan.endpoint),
        loop="open" if pacer.open_loop else "closed",
        workers=plan.processes,
        clients=plan.clients,
        samples=pacer.samples,
        seconds=pacer.seconds,
        warmup_s=pacer.warmup_s,
        rate=getattr(pacer, "rate", None),
        arrivals=getattr(pacer, "arrivals", None),
        payload=workload.payload.name,
        batch_size=workload.batch_size,
        images=len(workload.images),
        image_bytes=sum(map(len, workload.images)) // len(workload.images),
        expect=workload.expect,
        timeout_s=plan.timeout_s,
    )
