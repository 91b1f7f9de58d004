from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from visionserve.bench.figures.document import Run, Settings, cost_per_million

# Settings that make the load itself; with other values, the figures answer another question.
LOAD = ("payload", "batch_size", "images", "image_bytes", "loop")
LOAD_OF_LOOP = {"closed": ("clients",), "open": ("arrivals", "rate")}
# A sweep chooses these itself.
SWEPT = ("rate", "clients")
UNITS = {"_s": " (s)", "_bytes": " (bytes)"}

Entries = Sequence[tuple[str, Run]]


@dataclass(frozen=True)
class Side:
    """A run beside the first one: `speed_up` is its inferences/s over theirs, `relative_cost` its cost over theirs.

    They are None where one of the two is not known.
    """

    name: str
    run: Run
    speed_up: float | None
    relative_cost: float | None


def side_by_side(entries: Entries) -> list[Side]:
    """The runs in their order, each held against the first."""
    first = entries[0][1]
    return [
        Side(
            name,
            run,
            _ratio(run.inferences_per_s, first.inferences_per_s),
            _ratio(run.cost_per_million, first.cost_per_million),
        )
        for name, run in entries
    ]


def differences(entries: Entries) -> list[tuple[str, list[str]]]:
    """What was not the same for all runs: its name, and its value for each of them."""
    known = [*((label(field.name), _setting(entries, field.name)) for field in fields(Settings))]
    known.append(("client machine", [f"{run.machine.cores} x {run.machine.cpu}" for _, run in entries]))
    return [(name, values) for name, values in known if len(set(values)) > 1]


def cautions(entries: Entries) -> Iterator[str]:
    """One sentence for each reason not to take the runs' figures at their word, or not to compare them."""
    for name in LOAD:
        yield from _unequal(entries, name)
    for loop, names in LOAD_OF_LOOP.items():
        alike = [(name, run) for name, run in entries if run.settings.loop == loop]
        swept = all(run.steps for _, run in alike)
        for name in names:
            if not (swept and name in SWEPT):
                yield from _unequal(alike, name)
    for name, run in entries:
        for doubt in run.stability.doubts:
            yield f"{name} is not to be trusted: {doubt.rstrip('.')}."


def priced(run: Run, price_per_hour: float) -> Run:
    """The same run at another price."""
    cost = cost_per_million(run.inferences_per_s, price_per_hour)
    steps = tuple(priced(step, price_per_hour) for step in run.steps)
    return replace(run, price_per_hour=price_per_hour, cost_per_million=cost, steps=steps)


def unique_names(paths: Sequence[Path]) -> list[str]:
    """The files' stems; those that are the same in several, with as many of their folders as tell them apart."""
    parts = [(*path.absolute().parts[1:-1], path.stem) for path in paths]
    names = []
    for number, own in enumerate(parts):
        others = {other for other in parts if other != own}
        depth = next(
            depth for depth in range(1, len(own) + 1) if all(own[-depth:] != other[-depth:] for other in others)
        )
        again = parts[:number].count(own)
        names.append("/".join(own[-depth:]) + (f" ({again + 1})" if again else ""))
    return names


def label(setting: str) -> str:
    """A setting's name as a reader has it."""
    for ending, unit in UNITS.items():
        if setting.endswith(ending):
            return f"{setting.removesuffix(ending).replace('_', ' ')}{unit}"
    return setting.replace("_", " ")


def value(setting: Any) -> str:
    """A setting's value as a reader has it."""
    return "-" if setting is None else f"{setting:g}" if isinstance(setting, float) else str(setting)


def margin(run: Run) -> str:
    """Half the width of the 95 % confidence interval of inferences/s."""
    return "" if run.stability.margin_95 is None else f" ± {run.stability.margin_95:.1%}"


def errors(run: Run) -> str:
    """The failed requests, and their share of all."""
    return f"{run.failed:,} ({run.failed / run.requests:.2%})" if run.failed else "0"


def cost(amount: float | None) -> str:
    """An amount of money, with three digits or more."""
    return "-" if amount is None else f"{amount:,.2f}" if amount >= 1 else f"{amount:.3g}"


def times(ratio: float | None) -> str:
    """How many times as much as the first, with three digits."""
    return "-" if ratio is None else f"{ratio:.2f}x" if ratio < 100 else f"{ratio:,.0f}x"


def _setting(entries: Entries, name: str) -> list[str]:
    return [value(getattr(run.settings, name)) for _, run in entries]


def _unequal(entries: Entries, setting: str) -> Iterator[str]:
    values = _setting(entries, setting)
    if len(set(values)) > 1:
        groups = [
            f"{shared} in {', '.join(name for (name, _), own in zip(entries, values, strict=True) if own == shared)}"
            for shared in dict.fromkeys(values)
        ]
        yield f"The runs were not under the same load: {label(setting)} is {'; '.join(groups)}."


def _ratio(value: float | None, first: float | None) -> float | None:
    return value / first if value is not None and first else None
