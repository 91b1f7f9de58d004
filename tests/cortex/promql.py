"""What the queries of the dashboard and the alert rules ask for."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

_METRIC = re.compile(r"\b(visionserve_\w+|up)\b(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\b(?:by|without) \(([^)]*)\)")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
# Prometheus adds them to whatever it scrapes, and `le` is each histogram's.
OF_EVERY_TARGET = {"job", "instance", "le"}


def metrics_in(query: str) -> set[str]:
    return {name for name, _ in _METRIC.findall(query)} - {"up"}


def labels_in(query: str) -> set[str]:
    """The labels that a query selects or groups by, without those of every target."""
    named = [label for _, selectors in _METRIC.findall(query) for label in _LABEL.findall(selectors)]
    named += [label.strip() for group in _GROUPED.findall(query) for label in group.split(",")]
    return set(named) - OF_EVERY_TARGET


def dashboard_queries(file: Path) -> list[str]:
    return [target["expr"] for panel in dashboard_panels(file) for target in panel.get("targets", [])]


def dashboard(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def dashboard_panels(file: Path) -> list[dict[str, Any]]:
    return dashboard(file)["panels"]


def alert_queries(file: Path) -> list[str]:
    return [rule["expr"] for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]
