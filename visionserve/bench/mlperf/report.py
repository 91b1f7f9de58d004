from visionserve.bench.figures.units import count, milliseconds, rate
from visionserve.bench.mlperf.logs import SUMMARY
from visionserve.bench.mlperf.result import VALID, ScenarioResult
from visionserve.bench.mlperf.settings import Scenario, ScenarioSettings
from visionserve.bench.reports.summary import MEGABYTE

NANOSECONDS = " (ns)"
# LoadGen 6 puts the completed rate first and the scheduled one, MLPerf's metric before, among the statistics.
SCHEDULED = "Scheduled samples per second"


def heading(settings: ScenarioSettings) -> str:
    """What is about to be sent, on one line."""
    mode = "accuracy" if settings.accuracy else "performance"
    least = [f"{settings.min_seconds:g} s"] if settings.min_seconds is not None else ["MLPerf's 10 minutes"]
    least += [f"{settings.min_queries} queries"] if settings.min_queries is not None else []
    shortest = "" if settings.accuracy else f", at least {' and '.join(least)}"
    return (
        f"MLPerf {settings.scenario.value}, {mode}, through {count(settings.clients, 'connection')}{shortest}: "
        f"{count(len(settings.images), 'image')} to {settings.workload.endpoint}"
    )


def text(result: ScenarioResult) -> str:
    """The summary: one `name: value` a line."""
    named = [
        ("scenario", f"{result.scenario}, {result.mode}, LoadGen {result.loadgen_version}"),
        *_verdict(result),
        *_metrics(result),
        *_accuracy(result),
        ("samples", f"{result.served} served of {result.samples}, in {count(result.requests, 'request')}"),
        ("elapsed time", f"{result.duration_s:.2f} s, loading the images included"),
        (
            "transferred",
            f"{result.bytes_sent / MEGABYTE:.1f} MB sent, {result.bytes_received / MEGABYTE:.1f} MB received",
        ),
        ("client CPU", f"{result.client_cpu_s:.2f} s"),
        ("failed", _failed(result)),
    ]
    rows = named + [(kind, example) for kind, example in result.error_examples.items() if example]
    rows += [("note", note) for note in result.notes]
    rows.append(("logs", f"{result.log_dir} ({count(len(result.log_files), 'file')}, mlperf_log_*)"))
    width = max(len(name) for name, _ in named)
    return "\n".join(f"{name:>{width}}: {value}" for name, value in rows)


def _verdict(result: ScenarioResult) -> list[tuple[str, str]]:
    summary = result.loadgen
    if summary is None:
        return [("result", f"INVALID: ended before LoadGen wrote {SUMMARY}")]
    if summary.verdict is None:
        return []
    if result.ok:
        rows = [("result", f"{summary.verdict} (LoadGen's verdict)")]
    else:
        rows = [
            (
                "result",
                f"INVALID: {count(result.failed, 'sample')} not served (LoadGen, blind to that: {summary.verdict})",
            )
        ]
    rows.append(("satisfied", ", ".join(f"{name} {answer.lower()}" for name, answer in summary.checks.items())))
    if summary.verdict != VALID:
        rows += [("LoadGen says", sentence) for sentence in summary.advice]
    return rows


def _metrics(result: ScenarioResult) -> list[tuple[str, str]]:
    if result.loadgen is None:
        return []
    figures = dict(result.loadgen.result)
    if result.scenario == Scenario.SERVER.value:
        figures |= {name: value for name, value in result.loadgen.statistics.items() if name == SCHEDULED}
        figures |= {
            name: value for name, value in result.loadgen.statistics.items() if name.startswith("99.00 percentile")
        }
    caution = f" (not a result: {count(result.failed, 'failed sample')} counted in)" if result.failed else ""
    rows = [(name.removesuffix(NANOSECONDS), _value(name, value) + caution) for name, value in figures.items()]
    bound = result.loadgen.parameters.get("target_latency (ns)")
    if result.scenario == Scenario.SERVER.value and bound is not None:
        rows.append(("latency bound", _value(NANOSECONDS, bound)))
    return rows


def _value(name: str, value: float) -> str:
    return f"{milliseconds(value / 1e6)} ms" if name.endswith(NANOSECONDS) else rate(value)


def _accuracy(result: ScenarioResult) -> list[tuple[str, str]]:
    accuracy = result.accuracy
    if accuracy is None:
        return []
    return [
        ("top-1", f"{accuracy.top1:.2%} ({accuracy.top1_correct} of {count(accuracy.images, 'image')})"),
        ("top-5", f"{accuracy.top5:.2%} ({accuracy.top5_correct} of {count(accuracy.images, 'image')})"),
    ]


def _failed(result: ScenarioResult) -> str:
    if not result.failed:
        return "0"
    kinds = [f"{number} {kind}" for kind, number in result.errors.items()]
    kinds += [f"{result.not_sent} not sent"] if result.not_sent else []
    return f"{result.failed} of {result.samples} samples ({', '.join(kinds)})"
