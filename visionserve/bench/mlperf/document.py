from collections.abc import Iterator
from datetime import datetime, timezone

import orjson

from visionserve.bench.figures.machine import this_machine
from visionserve.bench.figures.notes import BUSY_WORKER
from visionserve.bench.mlperf.driver import Report
from visionserve.bench.mlperf.logs import ACCURACY, LoadGenSummary, log_files, read_accuracy, read_summary
from visionserve.bench.mlperf.result import SCHEMA, Accuracy, ScenarioResult, Settings
from visionserve.bench.mlperf.settings import Scenario, ScenarioSettings
from visionserve.errors import VisionserveError


def document(
    settings: ScenarioSettings,
    report: Report,
    started: datetime,
    duration_s: float,
    interrupted: bool,
    loadgen_version: str,
) -> ScenarioResult:
    """The driver's last report and what LoadGen logged, as one result.

    Raises VisionserveError when LoadGen's logs are not there or do not agree with the answers counted.
    """
    counts = report.counts
    loadgen = read_summary(settings.log_dir) if report.done else None
    accuracy = _accuracy(settings, report.answers) if report.answers is not None else None
    return ScenarioResult(
        schema=SCHEMA,
        started=started.astimezone(timezone.utc).isoformat(timespec="seconds"),
        duration_s=duration_s,
        scenario=settings.scenario.value,
        mode="accuracy" if settings.accuracy else "performance",
        settings=_settings(settings),
        machine=this_machine(),
        loadgen_version=loadgen_version,
        loadgen=loadgen,
        samples=counts.issued,
        served=counts.served,
        requests=counts.requests,
        errors=dict(counts.failed.most_common()),
        error_examples=counts.examples,
        not_sent=counts.not_sent,
        waited_for_connection=counts.waited_for_connection,
        bytes_sent=counts.bytes_sent,
        bytes_received=counts.bytes_received,
        client_cpu_s=report.cpu_s,
        accuracy=accuracy,
        interrupted=interrupted,
        gave_up=report.gave_up,
        log_dir=str(settings.log_dir),
        log_files=log_files(settings.log_dir),
        notes=list(_notes(settings, report, duration_s, loadgen, accuracy, interrupted)),
    )


def _accuracy(settings: ScenarioSettings, answers: dict[int, list[str]]) -> Accuracy:
    labels = settings.labels or ()
    logged = read_accuracy(settings.log_dir)
    for index, image in enumerate(settings.images):
        found = answers.get(index)
        if found is None or (orjson.dumps(found) if found else b"") not in logged.get(index, set()):
            raise VisionserveError(f"{ACCURACY} does not hold the answer that was counted for {image!s}: run it again.")
    top1 = sum(answers[index][:1] == [label] for index, label in enumerate(labels))
    top5 = sum(label in answers[index] for index, label in enumerate(labels))
    return Accuracy(len(labels), top1, top5, top1 / len(labels), top5 / len(labels))


def _notes(
    settings: ScenarioSettings,
    report: Report,
    duration_s: float,
    loadgen: LoadGenSummary | None,
    accuracy: Accuracy | None,
    interrupted: bool,
) -> Iterator[str]:
    counts = report.counts
    if interrupted:
        yield "interrupted; LoadGen was ended in its test: no verdict, and counts and logs as of the second before"
    elif report.gave_up:
        yield "the endpoint no longer answered, so nothing more was sent to it"
    if report.cpu_s > BUSY_WORKER * duration_s:
        yield (
            f"the client was the limit, not the server: it used {report.cpu_s / duration_s:.0%} of the one core that "
            "it can use, as LoadGen drives a single process"
        )
    if counts.waited_for_connection:
        yield (
            f"{counts.waited_for_connection} queries waited because all {settings.clients} connections were busy; "
            "their latency counts from when they were due (-t raises the bound)"
        )
    too_short = loadgen is not None and loadgen.checks.get("Min duration") == "NO"
    if loadgen is not None and settings.scenario is Scenario.OFFLINE and too_short and not counts.unserved:
        expected = 1.1 * loadgen.result["Samples per second"]
        yield f"--rate {expected:.0f} lets LoadGen make a query that lasts long enough"
    if loadgen is not None and not settings.accuracy and (settings.min_seconds, settings.min_queries) != (None, None):
        yield "MLPerf's own rules ask for 10 minutes and its own number of queries; -i and -s set others for this run"
    if accuracy is not None and accuracy.top5_correct == 0 and report.answers:
        answered = next((found[0] for found in report.answers.values() if found), None)
        label = (settings.labels or ("",))[0]
        if answered is not None:
            yield f"no answer had its image's label: does the API answer {answered} where the folder says {label}?"


def _settings(settings: ScenarioSettings) -> Settings:
    workload = settings.workload
    return Settings(
        endpoint=str(workload.endpoint),
        payload=workload.payload.name,
        images=len(settings.images),
        images_per_request=workload.batch_size,
        samples_per_query=settings.samples_per_query,
        clients=settings.clients,
        min_seconds=settings.min_seconds,
        min_queries=settings.min_queries,
        target_rate=settings.target_rate,
        latency_limit_ms=settings.latency_limit_ms,
        expect=workload.expect,
        timeout_s=settings.timeout_s,
    )
