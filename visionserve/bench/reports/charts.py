from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.core.properties import value as literal
from bokeh.embed import json_item
from bokeh.layouts import column
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    DataRange1d,
    FixedTicker,
    HoverTool,
    NumeralTickFormatter,
    PanTool,
    Range1d,
    ResetTool,
    SaveTool,
    WheelZoomTool,
)
from bokeh.plotting import figure
from bokeh.themes import Theme
from hdrh.histogram import HdrHistogram

from visionserve.bench.figures.document import Run
from visionserve.bench.load.results import decoded
from visionserve.bench.reports import columns
from visionserve.errors import UsageError

# Okabe and Ito's colors for every kind of color vision (https://jfly.uni-koeln.de/color/), those that show on white
# and on black; dark blue comes last on black.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DARK_PALETTE = (PALETTE[5], *PALETTE[1:5], PALETTE[0])
# x = 1 / (1 - quantile), as HdrHistogram's own plots have it.
PERCENTILE_TICKS = {1.0: "0", 2.0: "50", 10.0: "90", 100.0: "99", 1000.0: "99.9", 10_000.0: "99.99"}
THICK, THIN = 2.5, 1.25
FONT = "system-ui, sans-serif"
THEME = Theme(
    json={
        "attrs": {
            "Plot": {
                "background_fill_color": None,
                "border_fill_color": None,
                "outline_line_color": None,
                "min_border_left": 72,
                "min_border_right": 16,
            },
            "Axis": {
                "axis_label_text_font": FONT,
                "axis_label_text_font_style": "normal",
                "axis_label_text_font_size": "13px",
                "axis_label_standoff": 8,
                "major_label_text_font": FONT,
                "major_label_text_font_size": "12px",
                "minor_tick_line_color": None,
                "major_tick_in": 0,
                "major_tick_out": 4,
            },
            "Text": {"text_font_size": "12px"},
            "Toolbar": {"logo": None, "autohide": True},
        }
    }
)

Entries = Sequence[tuple[str, Run]]


@dataclass(frozen=True)
class Chart:
    """One figure of the page; `item` is what Bokeh.embed.embed_item draws."""

    name: str
    title: str
    caption: str
    item: dict[str, Any]


def charts(entries: Entries) -> list[Chart]:
    """The figures of the runs, each with its name, in the colors of PALETTE.

    Raises UsageError when a run's latency histogram cannot be read.
    """
    histograms = [_histogram(name, run) for name, run in entries]
    return [
        _throughput(entries),
        _percentiles(entries, histograms),
        _timeline(entries),
        _distribution(entries, histograms),
    ]


def _throughput(entries: Entries) -> Chart:
    every = columns.spans_a_point([run for _, run in entries])
    clouds = [None if run.steps else _some(columns.timeline(run, every), "rate", "p50", "p99") for _, run in entries]
    points = [columns.steps(run.steps or (run,)) for _, run in entries]
    latencies = [value for part in (*clouds, *points) if part for key in ("p50", "p99") for value in part[key]]
    plot = _plot(
        "inferences/s",
        "latency (ms)",
        360,
        x_range=DataRange1d(start=0, range_padding=0.2),
        y_log=columns.is_wide(latencies),
    )
    large = []
    for index, ((name, run), cloud, point) in enumerate(zip(entries, clouds, points, strict=True)):
        paint = {"color": _color(index), "name": name}
        source = ColumnDataSource(point)
        for key, opacity, width in (("p50", 1.0, THICK), ("p99", 0.0, THIN)):
            if cloud is None and run.slo is None:
                plot.line("rate", key, source=source, line_width=width, **paint)
            if cloud is not None:
                plot.scatter("rate", key, source=cloud, size=5, fill_alpha=0.3 * opacity, line_alpha=0.4, **paint)
            large.append(plot.scatter("rate", key, source=source, size=10, fill_alpha=opacity, line_width=2, **paint))
        if cloud is None and run.slo is None:
            above = {"x_offset": -4, "y_offset": -6, "text_align": "right", "text_font": literal(FONT)}
            plot.text("rate", "p50", "short", source=source, text_color=_color(index), **above)
        if run.slo is not None:
            plot.hspan([run.slo.limit_ms], line_color=_color(index), line_dash="dotted", line_width=2)
    rows = [("load", "@load"), ("inferences/s", "@rate{0,0.0}"), ("p50", "@p50{0,0.00} ms"), ("p99", "@p99{0,0.00} ms")]
    _hover(plot, [*rows, ("failed", "@failed of @requests requests")], renderers=large)
    parts = ["Filled: p50. Hollow: p99."]
    if any(run.steps and run.slo is None for _, run in entries):
        parts.append("A curve's points are the steps of a sweep, each labeled with its load.")
    if any(clouds):
        parts.append("Large: the whole run. Small: its seconds.")
    if any(run.slo for _, run in entries):
        parts.append("Each trial of a search is a point. Dotted: the latency asked for.")
    return _chart("throughput", "Throughput against latency", " ".join(parts), plot)


def _percentiles(entries: Entries, histograms: Sequence[HdrHistogram]) -> Chart:
    curves = [columns.percentiles(histogram) for histogram in histograms]
    y_log = columns.is_wide(value for curve in curves for value in curve["latency"])
    x_range = Range1d(start=1, end=max(PERCENTILE_TICKS) * 1.2)
    plot = _plot("percentile of the requests", "latency (ms)", 360, x_range=x_range, x_log=True, y_log=y_log)
    plot.xaxis.ticker = plot.xgrid.ticker = FixedTicker(ticks=list(PERCENTILE_TICKS))
    plot.xaxis.major_label_overrides = PERCENTILE_TICKS
    for index, ((name, _), curve) in enumerate(zip(entries, curves, strict=True)):
        plot.line("x", "latency", source=curve, name=name, color=_color(index), line_width=THICK)
    _hover(
        plot, [("percentile", "@percentile{0.[0000]}"), ("latency", "@latency{0,0.00} ms")], mode=_hover_mode(entries)
    )
    caption = "A curve ends at its slowest request."
    return _chart("percentiles", "Latency percentiles", f"{caption}{_of_step(entries)}", plot)


def _distribution(entries: Entries, histograms: Sequence[HdrHistogram]) -> Chart:
    binned, log = columns.bins(histograms)
    y_range = DataRange1d(start=0)
    plot = _plot("latency (ms)", "share of the requests (%)", 320, x_log=log, y_range=y_range)
    for index, ((name, _), bars) in enumerate(zip(entries, binned, strict=True)):
        paint = {"name": name, "color": _color(index), "fill_alpha": 0.45, "line_alpha": 0.8}
        plot.quad("left", "right", "share", 0, source=bars, **paint)
    rows = [("latency", "@left{0,0.00} to @right{0,0.00} ms"), ("share", "@share{0.[00]} %"), ("requests", "@requests")]
    _hover(plot, rows)
    return _chart("histogram", "Latency histogram", f"Served requests only.{_of_step(entries)}", plot)


def _timeline(entries: Entries) -> Chart:
    every = columns.spans_a_point([run for _, run in entries])
    points = [columns.timeline(run, every) for _, run in entries]
    y_log = columns.is_wide(value for part in points for key in ("p50", "p99") for value in part[key])
    failing = any((part["errors"] > 0).any() for part in points)
    time = DataRange1d(start=0, range_padding=0)
    rates = _plot(None, "inferences/s", 220, x_range=time, y_range=DataRange1d(start=0))
    delays = _plot(None if failing else "time (s)", "latency (ms)", 240, x_range=time, y_log=y_log)
    errors = _plot("time (s)", "errors/s", 150, x_range=time, y_range=DataRange1d(start=0))
    errors.yaxis.ticker.desired_num_ticks = 3
    for index, ((name, _), part) in enumerate(zip(entries, points, strict=True)):
        paint = {"source": ColumnDataSource(part), "name": name, "color": _color(index)}
        rates.line("time", "rate", line_width=2, **paint)
        delays.line("time", "p50", line_width=THICK, **paint)
        delays.line("time", "p99", line_width=THIN, **paint)
        failed = part["errors"] > 0
        bars = {key: values[failed] for key, values in _some(part, "start", "time", "length", "errors").items()}
        errors.vbar("time", "length", "errors", **paint | {"source": ColumnDataSource(bars)}, alpha=0.7)
    at, mode = ("from", "@start{0,0} s"), _hover_mode(entries)
    _hover(rates, [at, ("inferences/s", "@rate{0,0.0}")], mode=mode)
    rows = [at, ("p50", "@p50{0,0.00} ms"), ("p99", "@p99{0,0.00} ms")]
    _hover(delays, rows, mode=mode, renderers=delays.renderers[1:] if len(entries) == 1 else "auto")
    _hover(errors, [at, ("errors/s", "@errors{0,0.[00]}")])
    parts = ["Thick: p50. Thin: p99."]
    if not failing:
        parts.append("No request failed.")
    if every > 1:
        parts.append(f"Latencies are the highest of every {every} stretches.")
    plots = [rates, delays, errors] if failing else [rates, delays]
    stack = column(plots, sizing_mode="stretch_width")
    return _chart("timeline", "Timeline", f"{' '.join(parts)}{_of_step(entries)}", stack)


def _chart(name: str, title: str, caption: str, plot: Any) -> Chart:
    return Chart(name, title, caption, dict(json_item(plot, theme=THEME)))


def _plot(x: str | None, y: str, height: int, x_log: bool = False, y_log: bool = False, **ranges: Any) -> Any:
    if not y_log:
        ranges.setdefault("y_range", DataRange1d(start=0))
    zoom, wheel = BoxZoomTool(), WheelZoomTool(modifiers="ctrl")
    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        x_axis_label=x,
        y_axis_label=y,
        x_axis_type="log" if x_log else "linear",
        y_axis_type="log" if y_log else "linear",
        tools=[zoom, wheel, PanTool(), ResetTool(), SaveTool()],
        active_drag=zoom,
        active_scroll=wheel,
        toolbar_location="above",
        **ranges,
    )
    plot.axis.formatter = NumeralTickFormatter(format="0,0.[000]")
    return plot


def _hover(plot: Any, rows: Iterable[tuple[str, str]], **options: Any) -> None:
    # A run's name stays data ($name): in the template itself, "@" and "<" would mean something.
    plot.add_tools(HoverTool(tooltips=[("run", "$name"), *rows], point_policy="snap_to_data", **options))


def _hover_mode(entries: Entries) -> str:
    """Anywhere above or below a lone line; with several, their boxes would cover each other."""
    return "vline" if len(entries) == 1 else "mouse"


def _some(data: columns.Columns, *names: str) -> columns.Columns:
    return {name: data[name] for name in names}


def _histogram(name: str, run: Run) -> HdrHistogram:
    try:
        return decoded(run.latency_histogram)
    except Exception as error:  # the codec raises whatever zlib, base64, ctypes and its own decoder do
        raise UsageError(f"The run {name} cannot be drawn: its latency_histogram is not HdrHistogram's.") from error


def _color(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def _of_step(entries: Entries) -> str:
    return " Of a sweep: the step that answers it." if any(run.steps for _, run in entries) else ""
