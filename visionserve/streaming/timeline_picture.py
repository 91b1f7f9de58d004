"""A JobRecord as a picture: above, a bar for each attempt of each subtask, and below, images/s over the same time."""

import io
from typing import Any

import numpy as np

from visionserve.errors import MissingError
from visionserve.streaming.job_record import RUNNING, Attempt, JobRecord
from visionserve.streaming.throughput import rates, steady_rate

GREEN, GREY, GOLD, RED, INK, LINES = "#0b6e4f", "#b9bec4", "#c9a227", "#a4262c", "#2b2d31", "#e4e6e8"
WIDTH = 10.0
DPI = 150
LONGEST_NAME = 26


def paint(record: JobRecord) -> bytes:
    """A PNG. Raises MissingError where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(f"A time line needs matplotlib ({error}): run pip install matplotlib.") from error
    rows = sorted({(attempt.vertex, attempt.subtask) for attempt in record.attempts.values()})
    tall = 0.3 * (len(rows) + 1) + 0.4
    figure = Figure(figsize=(WIDTH, tall + 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    tasks, rate = figure.subplots(2, 1, sharex=True, height_ratios=[tall, 2.2])
    _paint_tasks(tasks, record, rows)
    _paint_rate(rate, record)
    for panel in (tasks, rate):
        panel.grid(axis="x", color=LINES, lw=0.7)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8, colors=INK)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
        for time in record.failures:
            panel.axvline(time - record.start, color=RED, lw=1.2, ls="--")
    tasks.set_title(_title(record), loc="left", fontsize=10, fontweight="bold", color=INK)
    rate.set_xlabel(_caption(record), fontsize=8, loc="left", color=INK)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _paint_tasks(panel: Any, record: JobRecord, rows: list[tuple[str, int]]) -> None:
    for attempt in record.attempts.values():
        place = rows.index((attempt.vertex, attempt.subtask)) + 1
        _paint_attempt(panel, attempt, place, record.start)
    for checkpoint in record.checkpoints.values():
        start, color = checkpoint.triggered - record.start, GOLD if checkpoint.state != "FAILED" else RED
        panel.barh(0, max(checkpoint.seconds, 1e-3), left=start, height=0.5, color=color, ec=color, lw=1.2)
        if checkpoint.state == "COMPLETED":
            panel.axvline(start + checkpoint.seconds, color=GOLD, lw=0.6, alpha=0.7, zorder=0.5)
    labels = [f"{_short(vertex, record.operator)} {subtask + 1}" for vertex, subtask in rows]
    panel.set_yticks(range(len(rows) + 1), ["checkpoints", *labels])
    panel.set_ylim(len(rows) + 0.6, -0.6)
    panel.tick_params(axis="y", length=0)
    meanings = [(GREY, "being set up"), (GREEN, "running"), (RED, "failed or canceled"), (GOLD, "checkpoint")]
    handles = [panel.barh(0, 0, color=color, label=meaning) for color, meaning in meanings]
    if record.failures:
        handles.append(panel.plot([], [], color=RED, lw=1.2, ls="--", label="failure of the job")[0])
    panel.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.12), ncols=5, fontsize=7.5, frameon=False)


def _paint_attempt(panel: Any, attempt: Attempt, place: int, zero: float) -> None:
    broken = attempt.state in ("FAILED", "CANCELED", "CANCELING")
    panel.barh(place, attempt.ready - attempt.start, left=attempt.start - zero, height=0.62, color=GREY)
    panel.barh(place, attempt.end - attempt.ready, left=attempt.ready - zero, height=0.62, color=GREEN)
    if broken:
        panel.plot([attempt.end - zero], [place], marker="X", ms=7, color=RED, mec="white", mew=0.6)
    if attempt.number:
        panel.text(
            attempt.ready - zero,
            place,
            f" attempt {attempt.number + 1}",
            color="white",
            fontsize=7,
            va="center",
            clip_on=True,
        )


def _paint_rate(panel: Any, record: JobRecord) -> None:
    edges, values = rates(record)
    panel.stairs(values, edges, fill=True, color=GREEN, alpha=0.85)
    mean = steady_rate(record)
    if np.isfinite(mean):
        panel.axhline(mean, color=INK, lw=0.9, ls=":")
        panel.annotate(
            f"{mean:.3g}",
            (1, mean),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
    panel.set_ylabel("images/s", fontsize=8, color=INK)
    panel.set_ylim(0, max(1.0, 1.12 * float(values.max())))
    panel.set_xlim(0, edges[-1])


def _title(record: JobRecord) -> str:
    tasks = len({attempt.subtask for attempt in record.classifying()})
    restarts = max((attempt.number for attempt in record.attempts.values()), default=0)
    again = f", {restarts} restart{'s' * (restarts != 1)}" if restarts else ""
    state = "was running" if record.state == RUNNING else record.state.lower()
    repeated = ", those done again included," if restarts else ""
    return f"{record.name}: {record.images} images{repeated} on {tasks} task{'s' * (tasks != 1)}, {state}{again}"


def _caption(record: JobRecord) -> str:
    lines = ["seconds since the job started   |   dotted: images/s from the first finished to the last"]
    lines += [
        f"dashed, {time - record.start:.0f} s: {reason if len(reason) <= 120 else reason[:119] + '…'}"
        for time, reason in sorted(record.failures.items())[:3]
    ]
    return "\n".join(lines)


def _short(vertex: str, operator: str) -> str:
    parts = vertex.split(" -> ")
    name = next((part for part in parts if operator.lower() in part.lower()), parts[0])
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
