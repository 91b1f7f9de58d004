import math
from typing import Any

import click

HOUR_S = 3600
WEEK_S = 7 * 24 * HOUR_S


class Positive(click.FloatRange):
    """More than 0 and at most `max`; nan, which no comparison refuses, is refused too."""

    def __init__(self, name: str, max: float) -> None:
        super().__init__(min=0, max=max, min_open=True)
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


def seconds(max: int) -> Positive:
    return Positive("seconds", max)


def given(name: str) -> bool:
    """Whether the user gave this parameter, on the command line or in the environment."""
    source = click.get_current_context().get_parameter_source(name)
    return source not in (None, click.core.ParameterSource.DEFAULT)


def refuse_together(first: str, first_name: str, second: str, second_name: str, reason: str) -> None:
    """Raises click.UsageError when the user gave both options."""
    if given(first_name) and given(second_name):
        raise click.UsageError(f"{first} does not go with {second}: {reason}.")
