from dataclasses import dataclass, field

from visionserve.bench.load.results import Tally
from visionserve.bench.load.timeline import Timeline
from visionserve.bench.load.worker import Interval


@dataclass
class Outcome:
    """All that the workers reported, merged, and what kept the run from being whole.

    `measured_from_ns` (perf_counter_ns) is the end of the warm-up.
    """

    measured_from_ns: int = 0
    tally: Tally = field(default_factory=Tally)
    timeline: Timeline = field(default_factory=Timeline)
    latest: Tally = field(default_factory=Tally)
    second: int = -1
    cpu_s: dict[int, float] = field(default_factory=dict)
    parent_cpu_s: float = 0.0
    connections: int = 0
    workers_given_up: int = 0
    lost_workers: list[str] = field(default_factory=list)
    interrupted: bool = False
    cut_short: bool = False

    @property
    def whole(self) -> bool:
        """Whether all requests that were planned came to an end."""
        return not (self.interrupted or self.cut_short or self.lost_workers or self.workers_given_up)

    def add(self, worker: int, interval: Interval) -> None:
        """`latest` holds what the workers reported of the newest second."""
        if interval.second > self.second:
            self.second, self.latest = interval.second, Tally()
        if interval.second == self.second:
            self.latest.merge(interval.tally)
        self.tally.merge(interval.tally)
        self.timeline.add(interval.second, interval.tally)
        self.cpu_s[worker] = interval.cpu_s
        self.connections += interval.connections
        self.workers_given_up += interval.gave_up
