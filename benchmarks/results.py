"""What a case measured, and what follows from it: medians, spreads, ratios."""

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from cases import BARE, BEST_PEER, Case
from peer_list import Setting

OURS = "visionserve"


@dataclass
class Row:
    """One contestant's turns, in order; void with the sentence of the first failure."""

    name: str
    title: str
    setting: Setting = field(default_factory=dict)
    trials: dict[str, float | str] = field(default_factory=dict)
    turns: list[float] = field(default_factory=list)
    latencies_ms: list[list[float]] = field(default_factory=list)
    failure: str | None = None
    version: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.turns)

    @property
    def counts(self) -> bool:
        return self.failure is None and bool(self.turns)


@dataclass
class CaseResult:
    case: Case
    rows: dict[str, Row]
    arrivals_per_s: float | None = None

    def best_peer(self) -> Row | None:
        """The peer with the best median over the run; ratios are to its turn of the same round."""
        peers = [row for row in self.rows.values() if row.name not in (OURS, BARE) and row.counts]
        if not peers:
            return None
        return (min if self.case.lower_is_better else max)(peers, key=lambda row: row.median)

    def ratios(self, over: str, of: str = OURS) -> list[float]:
        """Of each round; empty where either side has no turns that count."""
        other = self.best_peer() if over == BEST_PEER else self.rows.get(over)
        row = self.rows.get(of)
        if row is None or other is None or not (row.counts and other.counts):
            return []
        return [mine / theirs for mine, theirs in zip(row.turns, other.turns, strict=True)]

    def as_data(self) -> dict[str, Any]:
        best = self.best_peer()
        return {
            **asdict(self.case),
            "arrivals_per_s": self.arrivals_per_s,
            "best_peer": best.name if best else None,
            "ratios": {goal.over: self.ratios(goal.over) for goal in self.case.goals},
            "contestants": {name: asdict(row) for name, row in self.rows.items()},
        }
