from collections import Counter
from collections.abc import Callable
from time import monotonic

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from visionserve.bench.figures.units import milliseconds, rate
from visionserve.bench.load.outcome import Outcome

PLAIN_EVERY_S = 10.0
REFRESH_S = 0.9


class Progress:
    """What is measured while it is measured, on stderr: one changing line on a terminal, else a line every 10 s."""

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False)
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._every_s = PLAIN_EVERY_S if self._live is None else REFRESH_S
        self._shown_at = self._counted_at = monotonic()
        self._inferences = 0

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, outcome: Outcome) -> None:
        """A line about the load, with the rate since the last one."""
        if not outcome.tally.requests:
            self._counted_at = monotonic()
        self.tell(lambda: _line(outcome, self._rate(outcome.tally.inferences)))

    def tell(self, line: Callable[[], str]) -> None:
        """Shows a line when it is time for one."""
        now = monotonic()
        if now - self._shown_at < self._every_s:
            return
        self._shown_at = now
        if self._live is None:
            click.echo(line(), err=True)
        else:
            self._live.update(Text(line(), overflow="ellipsis", no_wrap=True), refresh=True)

    def _rate(self, inferences: int) -> float:
        now = monotonic()
        per_s = (inferences - self._inferences) / (now - self._counted_at) if inferences else 0.0
        self._counted_at, self._inferences = now, inferences
        return per_s


def _line(outcome: Outcome, per_s: float) -> str:
    tally = outcome.tally
    if not tally.requests:
        return f"warming up: {tally.warmup_requests} requests" if tally.warmup_requests else "no answer yet"
    p99 = tally.latency_us.get_value_at_percentile(99.0) / 1000 if tally.served else None
    return (
        f"{outcome.second + 1} s: {rate(per_s)} inferences/s, p99 {milliseconds(p99)} ms, "
        f"{failures_by_kind(tally.failed)}"
    )


def failures_by_kind(failed: Counter[str]) -> str:
    kinds = ", ".join(f"{number} {kind}" for kind, number in failed.most_common())
    return f"{failed.total()} failed{f' ({kinds})' if kinds else ''}"
