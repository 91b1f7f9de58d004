"""DCF's part: it imports the handler once, and calls it with requests."""

import base64
import importlib.util
import json
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.conftest import REPOSITORY
from visionserve.environment import environment

HANDLER = REPOSITORY / "deploy" / "dcf" / "handler.py"


def load(**variables: object) -> ModuleType:
    """The handler with these DCF_ variables in its environment."""
    specification = importlib.util.spec_from_file_location("dcf_handler", HANDLER)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    with environment(**{f"DCF_{name.upper()}": str(value) for name, value in variables.items()}):
        specification.loader.exec_module(module)
    return module


def call(handler: ModuleType, image: bytes) -> Any:
    return json.loads(handler.Handler(request(base64.b64encode(image))))


def request(data: str | bytes) -> SimpleNamespace:
    return SimpleNamespace(input=data)


def box(found: dict[str, str]) -> list[int]:
    """-> xmin, ymin, xmax, ymax"""
    return [int(found[side]) for side in ("xmin", "ymin", "xmax", "ymax")]


def iou(one: list[int], other: list[int]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in (one, other)]
    return common / (sum(areas) - common)
