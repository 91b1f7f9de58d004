"""Answered requests per second of the generator's own CPU, everyone by turns against one server."""

from collections.abc import Callable, Sequence

from cases import Case, Goal
from clients.generators import Errand, Generator
from load import LoadError
from results import CaseResult, Row

SHORT_SHARE = 0.1
CASE = Case(
    "light",
    "answered requests per second of the client's CPU",
    "requests/CPU s",
    engine="none: nginx answers at once",
    size=(640, 427),
    goals=(Goal("hey", 0.5), Goal("locust", 2.5), Goal("plain", 5)),
)


def compare(
    generators: Sequence[Generator],
    errand: Errand,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
    keep: Callable[[CaseResult], None],
) -> CaseResult:
    """All rounds, in an order that rotates; `keep` gets what is there after each."""
    rows = {
        one.name: Row(one.name, one.title, one.setting(errand.connections), version=one.version()) for one in generators
    }
    result = CaseResult(CASE, rows)
    for number in range(rounds):
        start = number % len(generators)
        for generator in [*generators[start:], *generators[:start]]:
            row = rows[generator.name]
            if row.failure is None:
                turn(generator, errand, seconds, row)
                outcome = f"is out: {row.failure}" if row.failure else f"{row.turns[-1]:.0f} {CASE.unit}"
                say(f"{CASE.name} {number + 1}/{rounds}: {row.title} {outcome}")
        keep(result)
    return result


def turn(generator: Generator, errand: Errand, seconds: float, row: Row) -> None:
    try:
        row.turns.append(per_cpu_second(generator, errand, seconds))
    except LoadError as error:
        row.failure = str(error)


def per_cpu_second(generator: Generator, errand: Errand, seconds: float) -> float:
    """What a run of `seconds` did beyond a run of a tenth, over the CPU it took beyond that one.

    Both start the same processes and import the same modules: that cost, which grows with no request, cancels.
    """
    short = generator.run(errand, SHORT_SHARE * seconds).execute()
    long = generator.run(errand, seconds).execute()
    requests = generator.answers(long.figures) - generator.answers(short.figures)
    cpu_s = long.cpu_s - short.cpu_s
    if requests <= 0 or cpu_s <= 0:
        raise LoadError(f"a run of {seconds:g} s did no more than one of a tenth; give more --seconds")
    return requests / cpu_s
