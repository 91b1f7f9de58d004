from visionserve.bench.figures.document import Run
from visionserve.bench.figures.units import count, milliseconds, rate
from visionserve.bench.load.plan import Plan

SHOWN_LATENCIES = ("mean", "p50", "p90", "p95", "p99", "p99.9", "max")
MEGABYTE = 1e6


def heading(plan: Plan) -> str:
    """What is about to be sent, on one line."""
    pacer = plan.pacer
    clients = "up to " if pacer.open_loop else ""
    warmup = f" after {pacer.warmup_s:g} s of warm-up" if pacer.warmup_s else ""
    return (
        f"{count(plan.processes, 'worker')}, {clients}{count(plan.clients, 'client')}, {pacer}{warmup}: {target(plan)}"
    )


def target(plan: Plan) -> str:
    """What goes where."""
    workload = plan.workload
    images = f"{len(workload.images)} images of" if len(workload.images) > 1 else "an image of"
    size = sum(map(len, workload.images)) / len(workload.images) / 1000
    return f"{images} {size:.0f} kB, {workload.batch_size} a request, to {plan.endpoint}"


def text(run: Run) -> str:
    """The summary: one `name: value` a line."""
    rows = [
        ("requests", f"{run.requests}{_warmup(run)}"),
        ("inferences", str(run.inferences)),
        ("elapsed time", f"{run.duration_s:.2f} s"),
        ("requests/s", rate(run.requests_per_s)),
        ("inferences/s", f"{rate(run.inferences_per_s)}{_margin(run)}"),
        ("latency (ms)", _latencies(run.latency_ms)),
    ]
    if run.send_lag_ms is not None:
        rows.append(("send lag (ms)", _latencies(run.send_lag_ms)))
    rows += [
        ("transferred", f"{run.bytes_sent / MEGABYTE:.1f} MB sent, {run.bytes_received / MEGABYTE:.1f} MB received"),
        ("client CPU", f"{run.client_cpu_s:.2f} s, its busiest worker {run.client_busiest:.0%} of a core"),
        ("failed", _failed(run)),
    ]
    if run.cost_per_million is not None:
        rows.append(("cost", f"{run.cost_per_million:.2f} per million inferences at {run.price_per_hour:g} an hour"))
    rows += [(kind, example) for kind, example in run.error_examples.items() if example]
    rows += [("not trusted", doubt) for doubt in run.stability.doubts]
    rows += [("note", note) for note in run.notes]
    width = max(len(name) for name, _ in rows[:8])
    return "\n".join(f"{name:>{width}}: {value}" for name, value in rows)


def step(run: Run) -> str:
    """One run of several, on one line."""
    settings = run.settings
    load = count(settings.clients, "client") if settings.rate is None else f"{settings.rate:g} requests/s"
    return (
        f"{load:>16}: {rate(run.inferences_per_s)} inferences/s, p50 {milliseconds(run.latency_ms['p50'])} ms, "
        f"p99 {milliseconds(run.latency_ms['p99'])} ms, {run.failed} failed"
    )


def _warmup(run: Run) -> str:
    return f" (and {run.warmup_requests} before them to warm up)" if run.warmup_requests else ""


def _margin(run: Run) -> str:
    margin = run.stability.margin_95
    return "" if margin is None else f" (± {margin:.1%} at 95 % confidence)"


def _latencies(latency_ms: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {milliseconds(latency_ms[name])}" for name in SHOWN_LATENCIES)


def _failed(run: Run) -> str:
    if not run.failed:
        return "0"
    kinds = ", ".join(f"{number} {kind}" for kind, number in run.errors.items())
    return f"{run.failed} of {run.requests} requests, not counted as inferences ({kinds})"
