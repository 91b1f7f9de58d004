"""What is compared: an engine, a photograph's size, a kind of load, and the ratios that are due."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Goal:
    over: str
    bound: float
    at_most: bool = False

    def met(self, ratio: float) -> bool:
        return ratio <= self.bound if self.at_most else ratio >= self.bound


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    unit: str
    engine: str
    size: tuple[int, int]
    goals: tuple[Goal, ...] = field(default=())
    bare: bool = False
    peers: bool = True
    open_loop: bool = False

    @property
    def lower_is_better(self) -> bool:
        return self.open_loop


BARE = "bare"
BEST_PEER = "best peer"
SMALL, LARGE = (640, 427), (4000, 2668)

CASES = (
    Case(
        "openvino",
        "images/s, openvino engine, 640x427",
        "images/s",
        "openvino",
        SMALL,
        (Goal(BARE, 0.94), Goal(BEST_PEER, 1.08)),
        bare=True,
    ),
    Case(
        "tensorflow",
        "images/s, tensorflow engine, 640x427",
        "images/s",
        "tensorflow",
        SMALL,
        (Goal(BARE, 0.94),),
        bare=True,
        peers=False,
    ),
    Case("null", "requests/s, null engine, 640x427", "requests/s", "null", SMALL, (Goal(BEST_PEER, 1.7),)),
    Case("null-large", "requests/s, null engine, 4000x2668", "requests/s", "null", LARGE, (Goal(BEST_PEER, 6),)),
    Case(
        "latency",
        "p99 latency at 70 % of the best peer's capacity, openvino engine, 640x427",
        "ms",
        "openvino",
        SMALL,
        (Goal(BEST_PEER, 1.0, at_most=True),),
        open_loop=True,
    ),
)
