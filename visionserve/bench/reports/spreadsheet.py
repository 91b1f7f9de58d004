import csv
import io
from collections.abc import Sequence
from typing import Any

from visionserve.bench.figures.document import Run
from visionserve.bench.figures.metrics import LATENCIES

SETTINGS = ("endpoint", "loop", "workers", "clients", "rate", "arrivals", "payload", "batch_size", "image_bytes")
FIGURES = (
    *("requests", "served", "failed", "inferences", "duration_s", "requests_per_s", "inferences_per_s"),
    *("bytes_sent", "bytes_received", "client_cpu_s", "price_per_hour", "cost_per_million"),
)


def to_csv(runs: Sequence[Run]) -> str:
    """A line of names and one line a run; what is not known is empty (RFC 4180)."""
    file = io.StringIO(newline="")
    columns = [*SETTINGS, *FIGURES, *(f"latency_{name}_ms" for name in LATENCIES), "errors", "trusted"]
    writer = csv.DictWriter(file, ["started", *columns])
    writer.writeheader()
    writer.writerows(_row(run) for run in runs)
    return file.getvalue()


def _row(run: Run) -> dict[str, Any]:
    row: dict[str, Any] = {"started": run.started}
    row |= {name: getattr(run.settings, name) for name in SETTINGS}
    row |= {name: getattr(run, name) for name in FIGURES}
    row |= {f"latency_{name}_ms": value for name, value in run.latency_ms.items()}
    row["errors"] = "; ".join(f"{number} {kind}" for kind, number in run.errors.items())
    row["trusted"] = "yes" if run.stability.trusted else "no"
    return row
