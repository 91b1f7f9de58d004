import re
from contextlib import suppress
from dataclasses import dataclass, replace

from visionserve.bench.figures.document import Run
from visionserve.bench.figures.units import count, milliseconds, rate
from visionserve.bench.load.plan import Plan
from visionserve.bench.searches.steps import Measure, Steps, Stopped, at_rate
from visionserve.errors import UsageError

MAX_STEPS = 1000
# As many ports as one address has to connect from.
MAX_CLIENTS = 65535
MAX_RATE = 1e6
# What more load must bring to count as growth: less is within what two runs of the same load differ by.
GROWTH = 0.05
EXAMPLE = "write it as 1,2,4,8 or rate=5,10,20"
CLIENTS, RATE = "clients", "rate"


@dataclass(frozen=True)
class Sweep:
    """The same load once for each of `values`: `kind` is "clients" (connections, of all workers) or "rate"
    (requests/s, open loop)."""

    kind: str
    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> "Sweep":
        """Of "1,2,4" (clients) or "rate=5,10". Raises UsageError."""
        name, equals, listed = text.partition("=")
        if not equals:
            name, listed = CLIENTS, text
        kind = name.strip()
        if kind not in (CLIENTS, RATE):
            raise UsageError(f"--sweep {text}: {kind!r} is nothing to sweep; {EXAMPLE}.")
        entries = [entry.strip() for entry in listed.split(",")]
        if len(entries) > MAX_STEPS:
            raise UsageError(f"--sweep has {len(entries)} steps; {MAX_STEPS} are the most.")
        values = tuple(_value(kind, entry) for entry in entries)
        for index, value in enumerate(values):
            if value in values[:index]:
                raise UsageError(f"--sweep has {value:g} twice; give each step once.")
        return cls(kind, values)

    def run(self, plan: Plan, measure: Measure) -> Run:
        """Measures every step, in order, and returns the one of the highest inferences/s among those that ran to their
        end without failures, or of all when none did; its `steps` are all of them.

        After a Ctrl-C, or when the endpoint no longer answers, it returns what there is. Raises what the first step
        raises.
        """
        plans = [self._plan(plan, value) for value in self.values]
        steps = Steps(measure)
        with suppress(Stopped):
            for step in plans:
                steps.measure(step)
        best = _best(steps.runs)
        notes = best.notes
        if steps.ended_early is not None:
            done = f"{len(steps.runs)} of {count(len(self.values), 'step')}"
            notes = (*notes, f"the sweep ended after {done}: {steps.ended_early}")
        return replace(best, steps=tuple(steps.runs), notes=notes, interrupted=steps.interrupted)

    def ok(self, run: Run) -> bool:
        """Whether every step was measured, and none had a failure."""
        return len(run.steps) == len(self.values) and all(step.ok and not step.interrupted for step in run.steps)

    def table(self, run: Run) -> str:
        """A line for each step, the best one marked, and a sentence on where throughput stops growing."""
        best = _best(list(run.steps))
        rows = [(self.kind, "requests/s", "inferences/s", "p50 ms", "p99 ms", "errors", "trusted", "")]
        for step in run.steps:
            trusted = "cut off" if step.interrupted else "yes" if step.stability.trusted else "no"
            rows.append(
                (
                    f"{self._value_of(step):g}",
                    rate(step.requests_per_s),
                    rate(step.inferences_per_s),
                    milliseconds(step.latency_ms["p50"]),
                    milliseconds(step.latency_ms["p99"]),
                    str(step.failed),
                    trusted,
                    "<- best" if step is best else "",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, *self._growth(run)])

    def _plan(self, plan: Plan, value: float) -> Plan:
        if self.kind == RATE:
            return at_rate(plan, value)
        return plan.paced(plan.pacer, clients=int(value))

    def _value_of(self, step: Run) -> float:
        value = step.settings.rate if self.kind == RATE else step.settings.clients
        assert value is not None
        return value

    def _growth(self, run: Run) -> list[str]:
        whole = sorted((step for step in run.steps if not step.interrupted and step.served), key=self._value_of)
        if len(whole) < 2:
            return []
        flat = next(
            index
            for index, step in enumerate(whole)
            if all(more.inferences_per_s <= step.inferences_per_s * (1 + GROWTH) for more in whole[index + 1 :])
        )
        value = self._value_of(whole[flat])
        place = f"{value:g} requests/s" if self.kind == RATE else count(int(value), "client")
        if flat == len(whole) - 1:
            return [f"Throughput still grows at {place}, the most that was tried."]
        return [f"Throughput stops growing at {place}: more brings less than {GROWTH:.0%} more inferences/s."]


def _best(steps: list[Run]) -> Run:
    return max(steps, key=lambda step: (not step.interrupted, step.ok, step.inferences_per_s))


def _value(kind: str, entry: str) -> float:
    if not entry:
        raise UsageError(f"--sweep has an empty step; {EXAMPLE}.")
    if kind == CLIENTS:
        if not re.fullmatch("[0-9]{1,9}", entry) or not 1 <= int(entry) <= MAX_CLIENTS:
            raise UsageError(f"--sweep {entry[:40]!r} is no number of clients from 1 to {MAX_CLIENTS}; {EXAMPLE}.")
        return int(entry)
    number = float(entry) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", entry) else 0.0
    if not 0 < number <= MAX_RATE:
        raise UsageError(f"--sweep {entry[:40]!r} is no rate above 0, of at most {MAX_RATE:g} requests/s; {EXAMPLE}.")
    return number
