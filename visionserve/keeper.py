import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from visionserve.child import Child
from visionserve.errors import DeploymentError

# Seconds after which a child has lived long enough to say nothing of the next one.
QUICK_DEATH = 10.0
# So many quick deaths in a row may be somebody who kills it; after that it is the child itself.
QUICK_DEATHS = 20
RESTART_DELAY, MAX_RESTART_DELAY = 0.25, 10.0


class Keeper:
    """Keeps one child process: when it dies it is started again.

    At once, unless it does not become ready, or dies quickly for the QUICK_DEATHS-th time in a row: then after a delay
    that doubles each time.
    """

    def __init__(
        self,
        name: str,
        starter: Callable[[], Awaitable[Child]],
        start_timeout: float,
        log: Callable[[str], None],
        forget: Callable[[Child], None] = lambda child: None,
    ) -> None:
        """`start_timeout`: seconds until it must be ready; `forget`: called with a child that has ended."""
        self.name = name
        self.child: Child | None = None
        self.restarts = 0
        self.since = 0.0
        self._starter = starter
        self._start_timeout = start_timeout
        self._log = log
        self._forget = forget
        self._stopping = asyncio.Event()
        self._keeping: asyncio.Task | None = None

    async def start(self) -> None:
        self.child = await self._starter()

    async def wait_ready(self) -> None:
        """After `start`. Raises DeploymentError when the child fails or takes too long."""
        assert self.child is not None
        await self.child.wait_ready(self._start_timeout)

    async def go(self) -> None:
        """Lets the child take requests, and keeps it alive from now on."""
        assert self.child is not None
        await self.child.go()
        self.since = time.monotonic()
        self._keeping = asyncio.create_task(self._keep(self.child))

    @property
    def working(self) -> Child | None:
        """The child that is to take requests, since the moment `since` of time.monotonic; None while there is none, and
        after `release`."""
        return self.child if self._keeping is not None and not self._stopping.is_set() else None

    def release(self) -> None:
        """From now on a child that ends is not started again."""
        self._stopping.set()

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds; returns when no process is left."""
        self.release()
        if self.child is not None:
            await self.child.stop(grace)
        if self._keeping is not None:
            await asyncio.wait({self._keeping})

    async def _keep(self, child: Child) -> None:
        quick_deaths = 0
        while True:
            code = await child.wait()
            self.child = None
            self._clean_up(child)
            if self._stopping.is_set():
                return
            self._log(f"{self.name} (process {child.pid}) ended with code {code}; starting it again")
            quick_deaths = quick_deaths + 1 if time.monotonic() - self.since < QUICK_DEATH else 0
            failures = max(0, quick_deaths - QUICK_DEATHS)
            while True:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _delay(failures))
                if self._stopping.is_set():
                    return
                self.restarts += 1
                if revived := await self._revive():
                    child = revived
                    break
                failures += 1

    async def _ready(self, child: Child) -> bool:
        """Whether the child became ready before it was to stop; raises as `Child.wait_ready`."""
        ready, stop = (
            asyncio.create_task(child.wait_ready(self._start_timeout)),
            asyncio.create_task(self._stopping.wait()),
        )
        await asyncio.wait({ready, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not ready.done():
            ready.cancel()
            return False
        await ready
        return True

    async def _revive(self) -> Child | None:
        child = None
        try:
            child = await self._starter()
            if await self._ready(child):
                await child.go()
        except (DeploymentError, OSError) as error:
            self._log(f"{self.name} did not start: {error}")
            if child is not None:
                await child.stop(grace=1)
                self._clean_up(child)
            return None
        if self._stopping.is_set():
            await child.stop(grace=1)
            self._clean_up(child)
            return None
        self.child = child
        self.since = time.monotonic()
        self._log(f"{self.name} is back (process {child.pid})")
        return child

    def _clean_up(self, child: Child) -> None:
        try:
            self._forget(child)
        except OSError as error:
            self._log(f"what {self.name} (process {child.pid}) left behind could not be cleaned up: {error}")


def _delay(failures: int) -> float:
    return min(RESTART_DELAY * 2 ** min(failures - 1, 10), MAX_RESTART_DELAY) if failures else 0.0
