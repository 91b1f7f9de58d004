"""A run's figures, for people and for programs.

The JSON document, schema "visionserve.bench/1":

    schema            "visionserve.bench/1"; the number grows when a key changes its meaning
    settings          endpoint, workers, threads, samples or seconds (the other is null), batch_size, image_bytes,
                      timeout_s
    requests          requests that came to an end, served or failed
    served            of these, answered 200 with a JSON list of one result an image
    failed            of these, not served
    inferences        images in served requests
    errors            failed requests by kind: refused, reset, time-out, unreachable, wrong answer, status NNN
    error_examples    what the first of each kind showed
    duration_s        first request sent to last one ended
    requests_per_s    served requests / duration_s
    inferences_per_s  inferences / duration_s
    latency_ms        mean, p50, p90, p95, p99, p99.9, max of served requests (null when none was), within 0.1 %
    connections       connections opened by the clients
    client_cpu_s      CPU seconds of the worker processes under load
    interrupted       true when stopped by Ctrl-C or SIGTERM
    abandoned         requests in flight at that moment; in no other figure
    clients_given_up  clients that stopped because the endpoint no longer answered at all
    lost_workers      one sentence for each worker process that died; its requests are in no figure
"""

from dataclasses import asdict
from typing import Any

import orjson

from visionserve.bench.metrics import Metrics
from visionserve.bench.plan import Plan

SCHEMA = "visionserve.bench/1"
SHOWN_LATENCIES = ("mean", "p50", "p95", "p99", "max")


def heading(plan: Plan) -> str:
    """What is about to be sent, on one line."""
    return (
        f"{_count(plan.workers, 'worker')} x {_count(plan.threads, 'thread')}, {plan.pacer}, "
        f"{_count(plan.workload.batch_size, 'image')} of {len(plan.workload.image) / 1000:.0f} kB a request, "
        f"to {plan.endpoint}"
    )


def text(metrics: Metrics) -> str:
    """The summary: one `name: value` a line."""
    rows = [
        ("requests", str(metrics.requests)),
        ("inferences", str(metrics.inferences)),
        ("elapsed time", f"{metrics.duration_s:.2f} s"),
        ("inferences/s", _rate(metrics.inferences_per_s)),
        ("latency (ms)", ", ".join(f"{name} {_ms(metrics.latency_ms[name])}" for name in SHOWN_LATENCIES)),
        ("failed", _failed(metrics)),
    ]
    rows += [(kind, example) for kind, example in metrics.error_examples.items() if example]
    rows += [("note", note) for note in _notes(metrics)]
    width = len("inferences/s")
    return "\n".join(f"{name:>{width}}: {value}" for name, value in rows)


def document(metrics: Metrics, plan: Plan) -> bytes:
    """The JSON document described above, UTF-8."""
    figures: dict[str, Any] = {"schema": SCHEMA, "settings": plan.settings(), **asdict(metrics)}
    figures["failed"] = metrics.failed
    return orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _failed(metrics: Metrics) -> str:
    if not metrics.failed:
        return "0"
    kinds = ", ".join(f"{number} {kind}" for kind, number in metrics.errors.items())
    return f"{metrics.failed} of {metrics.requests} requests, not counted as inferences ({kinds})"


def _notes(metrics: Metrics) -> list[str]:
    notes = [f"{sentence}; its requests are not in these figures" for sentence in metrics.lost_workers]
    if metrics.interrupted:
        notes.append(f"interrupted; {_count(metrics.abandoned, 'request')} in flight abandoned and not counted")
    if metrics.clients_given_up:
        notes.append(f"{_count(metrics.clients_given_up, 'client')} gave up: the endpoint no longer answered")
    return notes


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _rate(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
