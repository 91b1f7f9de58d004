from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """`moment`: of the clock that time.monotonic shows in every process of this machine."""

    event: str
    request: str
    node: str
    replica: str
    moment: float


class Journal:
    """What the replicas of journal_predictor.py wrote down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        if not self.path.exists():
            return []
        rows = [line.split() for line in self.path.read_text().splitlines()]
        return [Entry(event, request, node, replica, float(moment)) for event, request, node, replica, moment in rows]

    def running(self, node: str) -> set[str]:
        """The requests that a node has begun and not answered."""
        entries = [entry for entry in self.entries() if entry.node == node]
        begun, ended = ({entry.request for entry in entries if entry.event == event} for event in ("begin", "end"))
        return begun - ended

    def first_answers(self, since: float) -> dict[str, Entry]:
        """Replica -> the first answer it gave since then."""
        answers: dict[str, Entry] = {}
        for entry in self.entries():
            if entry.event == "end" and entry.moment >= since:
                answers.setdefault(entry.replica, entry)
        return answers
