from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import visionserve
from visionserve.bench.figures.document import Run, Settings
from visionserve.bench.figures.machine import Machine
from visionserve.bench.figures.metrics import LATENCIES
from visionserve.bench.figures.units import milliseconds, rate
from visionserve.bench.reports.charts import DARK_PALETTE, PALETTE, charts
from visionserve.bench.reports.columns import load
from visionserve.bench.reports.comparison import (
    Entries,
    cautions,
    cost,
    errors,
    label,
    margin,
    side_by_side,
    times,
    value,
)
from visionserve.bench.searches.slo import Slo

MEGABYTE = 1e6


@dataclass(frozen=True)
class Group:
    """Rows of the table of all figures: a name and the value of each run."""

    title: str
    rows: list[tuple[str, list[str]]]


def html(entries: Entries) -> str:
    """One page with the charts, figures, doubts and notes of the runs, each with its name. It loads nothing.

    Raises UsageError when a run's latency histogram cannot be read.
    """
    loader = PackageLoader("visionserve", "bench/reports")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # An object of Bokeh's is to stand before the references to it.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    environment.filters |= {"rate": rate, "ms": milliseconds, "cost": cost, "times": times}
    environment.filters |= {"margin": margin, "errors": errors, "load": load}
    return environment.get_template("page.html").render(
        sides=side_by_side(entries),
        charts=charts(entries),
        groups=[group for group in _groups(entries) if group.rows],
        cautions=list(cautions(entries)),
        notes=[(name, note) for name, run in entries for note in run.notes],
        examples=[(name, kind, text) for name, run in entries for kind, text in run.error_examples.items() if text],
        sweeps=[(name, run.steps) for name, run in entries if run.steps],
        answers=[(name, Slo(run.slo.percentile, run.slo.limit_ms).text(run)) for name, run in entries if run.slo],
        palette=PALETTE,
        dark_palette=DARK_PALETTE,
        latencies=LATENCIES,
        version=visionserve.__version__,
        # The core component alone: what Bokeh would load from elsewhere comes with the others.
        # Bokeh's own script, as it is in its package.
        bokeh=Markup("\n".join(Resources(mode="inline", components=["bokeh"], log_level="warn").js_raw)),  # nosec B704
    )


def _groups(entries: Entries) -> Iterator[Group]:
    runs = [run for _, run in entries]

    def row(name: str, show: Callable[[Run], str]) -> tuple[str, list[str]]:
        return name, [show(run) for run in runs]

    kinds = dict.fromkeys(kind for run in runs for kind in run.errors)
    yield Group(
        "Throughput",
        [
            row("inferences/s", lambda run: f"{rate(run.inferences_per_s)}{margin(run)}"),
            row("requests/s", lambda run: rate(run.requests_per_s)),
            row("inferences", lambda run: f"{run.inferences:,}"),
            row("requests", lambda run: f"{run.requests:,}"),
            row("served", lambda run: f"{run.served:,}"),
            row("failed", lambda run: f"{run.failed:,}"),
            *((f"failed: {kind}", [f"{run.errors.get(kind, 0):,}" for run in runs]) for kind in kinds),
            row("elapsed time (s)", lambda run: f"{run.duration_s:.2f}"),
            row("price per hour", lambda run: value(run.price_per_hour)),
            row("cost per million inferences", lambda run: cost(run.cost_per_million)),
        ],
    )
    yield Group("Latency (ms)", _latencies(runs, "latency_ms"))
    yield Group("Send lag (ms)", _latencies(runs, "send_lag_ms") if any(run.send_lag_ms for run in runs) else [])
    yield Group(
        "Steadiness",
        [
            row("trusted", lambda run: "yes" if run.stability.trusted else "no"),
            row("inferences/s by window", lambda run: _list(run.stability.windows_inferences_per_s, rate)),
            row("p50 by window (ms)", lambda run: _list(run.stability.windows_p50_ms, milliseconds)),
        ],
    )
    yield Group(
        "Client",
        [
            row("sent (MB)", lambda run: f"{run.bytes_sent / MEGABYTE:,.2f}"),
            row("received (MB)", lambda run: f"{run.bytes_received / MEGABYTE:,.2f}"),
            row("connections opened", lambda run: f"{run.connections:,}"),
            row("requests that waited for a connection", lambda run: f"{run.waited_for_connection:,}"),
            row("requests of the warm-up", lambda run: f"{run.warmup_requests:,}"),
            row("requests abandoned", lambda run: f"{run.abandoned:,}"),
            row("CPU (s)", lambda run: f"{run.client_cpu_s:.2f}"),
            row("busiest worker (of a core)", lambda run: f"{run.client_busiest:.0%}"),
            row("workers that gave up", lambda run: str(run.workers_given_up)),
            row("workers lost", lambda run: str(len(run.lost_workers))),
            row("interrupted", lambda run: "yes" if run.interrupted else "no"),
        ],
    )
    yield Group("Settings", _parts(Settings, [run.settings for run in runs]))
    started = row("started", lambda run: run.started)
    yield Group("Machine of the client", [started, *_parts(Machine, [run.machine for run in runs])])


def _latencies(runs: list[Run], key: str) -> list[tuple[str, list[str]]]:
    return [(name, [milliseconds((getattr(run, key) or {}).get(name)) for run in runs]) for name in LATENCIES]


def _parts(kind: type, owners: Sequence[Any]) -> list[tuple[str, list[str]]]:
    return [(label(part.name), [value(getattr(owner, part.name)) for owner in owners]) for part in fields(kind)]


def _list(values: tuple[Any, ...], show: Callable[[Any], str]) -> str:
    return ", ".join(map(show, values)) or "-"
