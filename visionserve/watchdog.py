import asyncio
import time
from collections.abc import Callable

from visionserve.child import Child
from visionserve.keeper import Keeper
from visionserve.pulse import Pulse

# Seconds between two looks.
LOOK = 0.25
# A look that comes this many seconds late tells that the whole machine stood still, or has no time for anybody.
LATE_LOOK = 0.5


class Watchdog:
    """Kills kept processes that hang; their keepers start them again.

    When its own look comes late (the machine slept, or everything was stopped), nothing is said of the others: their
    time begins anew.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._watched: list[tuple[Keeper, Pulse, float]] = []
        self._killed: Child | None = None

    def watch(self, keeper: Keeper, pulse: Pulse, heart_limit: float) -> None:
        """`pulse`: of the keeper's child, whichever it is; `heart_limit`: seconds its event loop may stand still."""
        self._watched.append((keeper, pulse, heart_limit))

    async def run(self) -> None:
        """Looks on until it is canceled."""
        awake_since = last = time.monotonic()
        while True:
            await asyncio.sleep(LOOK)
            now = time.monotonic()
            if now - last > LOOK + LATE_LOOK:
                awake_since = now
            last = now
            for keeper, pulse, heart_limit in self._watched:
                child = keeper.working
                if child is None or child is self._killed:
                    continue
                if hang := pulse.hang(now, max(awake_since, keeper.since), heart_limit):
                    self._log(f"{keeper.name} (process {child.pid}) hangs: {hang}; it is killed")
                    child.kill()
                    self._killed = child
