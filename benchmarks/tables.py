"""A case's result as text for a terminal."""

import statistics
from collections.abc import Iterator

from cases import BARE, BEST_PEER, Goal
from competition import describe
from results import OURS, CaseResult, Row


def table(result: CaseResult) -> Iterator[str]:
    case = result.case
    yield f"{case.title} ({case.name})"
    if result.arrivals_per_s is not None:
        yield f"arrivals: {result.arrivals_per_s:.2f}/s, one every {round(1000 / result.arrivals_per_s)} ms"
    bare = f"{'/ bare':>9}" if case.bare else ""
    yield f"  {'':26}{'median':>9}{'min':>9}{'max':>9}{bare}  setting"
    for row in result.rows.values():
        yield "  " + line(result, row)
    for goal in case.goals:
        yield "  " + verdict(result, goal)


def line(result: CaseResult, row: Row) -> str:
    title = f"{row.title} {row.version}" if row.version else row.title
    if not row.counts:
        return f"{title:26}void: {row.failure}"
    figures = "".join(f"{value:9.2f}" for value in (row.median, min(row.turns), max(row.turns)))
    over_bare = result.ratios(BARE, row.name) if result.case.bare else []
    bare = (f"{statistics.median(over_bare):9.3f}" if over_bare else " " * 9) if result.case.bare else ""
    return f"{title:26}{figures}{bare}  {describe(row.setting)}"


def verdict(result: CaseResult, goal: Goal) -> str:
    best = result.best_peer()
    over = f"{goal.over} ({best.title})" if goal.over == BEST_PEER and best else goal.over
    ratios = result.ratios(goal.over)
    due = f"{'at most' if goal.at_most else 'at least'} {goal.bound:g}"
    if not ratios:
        return f"{OURS} / {over}: not measured, due {due}"
    median = statistics.median(ratios)
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    return f"{OURS} / {over}: {median:.3f} ({spread}), due {due}: {'met' if goal.met(median) else 'NOT MET'}"
