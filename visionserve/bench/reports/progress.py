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
        now = monotonic()
        tally = outcome.tally
        if not tally.requests:
            self._counted_at = now
        if now - self._shown_at < self._every_s:
            return
        per_s = (tally.inferences - self._inferences) / (now - self._counted_at) if tally.requests else 0.0
        self._shown_at = self._counted_at = now
        self._inferences = tally.inferences
        line = _line(outcome, per_s)
        if self._live is None:
            click.echo(line, err=True)
        else:
            self._live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)


def _line(outcome: Outcome, per_s: float) -> str:
    tally = outcome.tally
    if not tally.requests:
        return f"warming up: {tally.warmup_requests} requests" if tally.warmup_requests else "no answer yet"
    p99 = tally.latency_us.get_value_at_percentile(99.0) / 1000 if tally.served else None
    kinds = ", ".join(f"{number} {kind}" for kind, number in tally.failed.most_common())
    return (
        f"{outcome.second + 1} s: {rate(per_s)} inferences/s, p99 {milliseconds(p99)} ms, "
        f"{tally.failed.total()} failed{f' ({kinds})' if kinds else ''}"
    )
