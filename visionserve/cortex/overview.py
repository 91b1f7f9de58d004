from datetime import datetime, timezone
from typing import Any

from pydantic import BaseModel

from visionserve.cortex import control, metrics
from visionserve.cortex.store import Deployment, Store
from visionserve.errors import DeploymentError


class Row(BaseModel):
    """One API as `cortex get` shows it.

    `latency_ms`: mean of all answered requests; None before the first. `requests_per_second` and `recent_latency_ms`:
    since the time before, while it is watched; None otherwise, and the latency where no request was answered.
    """

    name: str
    env: str = "local"
    status: str
    replicas: str
    updated: datetime | None = None
    requests: dict[str, int] = {}
    latency_ms: float | None = None
    requests_per_second: float | None = None
    recent_latency_ms: float | None = None
    engine: str | None = None
    endpoint: str | None = None
    spec: str | None = None
    in_flight: int | None = None
    restarts: int | None = None
    processes: dict[str, int] = {}


def overview(name: str | None = None, store: Store | None = None) -> list[Row]:
    """All APIs, or the one named. Raises DeploymentError for an unknown name."""
    store = store or Store()
    if name is not None:
        return [_row(store.get(name), store)]
    rows = []
    for known in store.names():
        try:
            deployment = store.find(known)
        except DeploymentError as error:
            rows.append(Row(name=known, status=str(error), replicas="?"))
            continue
        if deployment is not None:
            rows.append(_row(deployment, store))
    return rows


def table(rows: list[Row], watching: bool = False) -> str:
    """The rows for people to read; `watching`: with what is recent."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return "Nothing is deployed: run cortex deploy FILE.\n"
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    recent = ("requests/s", "latency now") if watching else ()
    titles = (
        "api",
        "env",
        "status",
        "replicas",
        "last update",
        "2xx",
        "4xx",
        "5xx",
        "avg latency",
        *recent,
        "endpoint",
    )
    for title in titles:
        drawn.add_column(title)
    for row in rows:
        counts = [str(row.requests.get(status_class, "-")) for status_class in ("2xx", "4xx", "5xx")]
        updated = _ago(row.updated) if row.updated else "-"
        cells = [row.name, row.env, row.status, row.replicas, updated, *counts, _milliseconds(row.latency_ms)]
        if watching:
            rate = "-" if row.requests_per_second is None else f"{row.requests_per_second:.1f}"
            cells += [rate, _milliseconds(row.recent_latency_ms)]
        drawn.add_row(*cells, row.endpoint or "-")
    # Wider than a narrow terminal rather than folded: the columns are what people read and grep for.
    console = Console(width=200)
    with console.capture() as captured:
        console.print(drawn)
    return captured.get()


def _row(deployment: Deployment, store: Store) -> Row:
    totals = metrics.totals(store.folder(deployment.name) / "metrics")
    state: dict[str, Any] = {"status": "dead (run cortex deploy again)"}
    if deployment.is_running():
        try:
            state = control.ask(deployment.control, "status")
        except DeploymentError:
            state = {"status": "not answering"}
    return Row(
        name=deployment.name,
        status=state["status"],
        replicas="1/1" if state["status"] == "live" else "0/1",
        updated=deployment.updated,
        requests=totals.by_class,
        latency_ms=totals.mean_latency * 1000 if totals.mean_latency is not None else None,
        engine=deployment.engine,
        endpoint=deployment.endpoint,
        spec=str(deployment.spec_file),
        in_flight=state.get("in_flight"),
        restarts=state.get("restarts"),
        processes=state.get("processes", {}),
    )


def _milliseconds(latency: float | None) -> str:
    return "-" if latency is None else f"{latency:.1f} ms"


def _ago(moment: datetime) -> str:
    seconds = int((datetime.now(timezone.utc) - moment).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit} ago"
    return f"{max(seconds, 0)}s ago"
