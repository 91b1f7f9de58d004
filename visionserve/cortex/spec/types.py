"""The types of a spec's values. Each check ends the sentence that starts with the field and the value."""

import math
import re
from collections.abc import Callable
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from visionserve.cortex.spec.duration import format_duration, parse_duration
from visionserve.cortex.spec.quantity import parse_cpu, parse_memory

LONGEST_NAME = 42  # Kubernetes adds 21 characters to it and stops at 63.


def whole(low: int, high: int | None = None) -> BeforeValidator:
    """A whole number from `low` to `high`."""
    span = f"of at least {low}" if high is None else f"from {low} to {high}"

    def check(value: object) -> object:
        good = isinstance(value, int) and not isinstance(value, bool)
        if not good or value < low or (high is not None and value > high):  # type: ignore[operator]
            raise ValueError(f"is not a whole number {span}")
        return value

    return BeforeValidator(check)


def number(span: str, fits: Callable[[float], bool]) -> BeforeValidator:
    """A finite number that `fits`; `span` says which those are."""

    def check(value: object) -> object:
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not good or not fits(value):  # type: ignore[arg-type]
            raise ValueError(f"is not a number {span}")
        return value

    return BeforeValidator(check)


def choice(*allowed: str) -> BeforeValidator:
    def check(value: object) -> object:
        if value not in allowed:
            raise ValueError(f"is not one of {', '.join(allowed)}")
        return value

    return BeforeValidator(check)


def matching(pattern: str, sentence: str) -> BeforeValidator:
    def check(value: object) -> object:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(sentence)
        return value

    return BeforeValidator(check)


def _string(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("is not text: write it in quotes")
    return value


def _text(value: object) -> object:
    if _string(value) == "":
        raise ValueError("is empty: write a value or leave the field out")
    return value


def _model_location(value: object) -> object:
    text = str(_text(value))
    if "://" in text and not re.fullmatch(r"s3://[^/]+/.+", text):
        raise ValueError("is neither a folder nor s3://bucket/prefix")
    return value


def _duration(value: object) -> float:
    # A bare number has no unit; the kind that Cortex reads is always text.
    return parse_duration(value if isinstance(value, str) else "")


def _endpoint(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_./-]+", value) or "//" in value:
        raise ValueError("is not a path of letters, digits, '-', '_', '.' and single '/'")
    return "/" + value.strip("/")


def _surge(value: object) -> object:
    count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    digits = isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII)
    percentage = isinstance(value, str) and re.fullmatch(r"(100|\d{1,2})%", value, re.ASCII)
    if not count and not digits and not percentage:
        raise ValueError("is neither a number of replicas nor a percentage such as 25%")
    return int(str(value)) if digits else value


String = Annotated[str, BeforeValidator(_string)]
Text = Annotated[str, BeforeValidator(_text)]
ModelLocation = Annotated[str, BeforeValidator(_model_location)]
Endpoint = Annotated[str, BeforeValidator(_endpoint)]
Duration = Annotated[
    float, BeforeValidator(_duration), PlainSerializer(format_duration, return_type=str, when_used="json")
]
Cpu = Annotated[float, BeforeValidator(parse_cpu)]
Memory = Annotated[int, BeforeValidator(parse_memory)]
Surge = Annotated[int | str, BeforeValidator(_surge)]
ApiName = Annotated[
    str,
    matching(
        rf"(?=.{{1,{LONGEST_NAME}}}$)[a-z]([-a-z0-9]*[a-z0-9])?",
        "is not a name: use lowercase letters, digits and dashes, start with a letter, end with a letter or a digit, "
        f"at most {LONGEST_NAME} characters",
    ),
]
ModelName = Annotated[
    str,
    matching(r"(?!_cortex_default$)[A-Za-z0-9_-]+", "is not a model's name: use letters, digits, '-' and '_'"),
]
