import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from visionserve.child import Child
from visionserve.errors import DeploymentError

QUICK_DEATH = 10.0
MAX_RESTART_DELAY = 10.0


class Keeper:
    """Keeps one child process: when it dies it is started again, after a growing delay if it keeps dying at once."""

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
        self._keeping = asyncio.create_task(self._keep(self.child))

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
        delay = 0.0
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            code = await child.wait()
            self.child = None
            self._forget(child)
            while True:
                if self._stopping.is_set():
                    return
                self.restarts += 1
                self._log(f"{self.name} (process {child.pid}) ended with code {code}; starting it again")
                delay = 0.0 if loop.time() - started > QUICK_DEATH else min(max(2 * delay, 0.25), MAX_RESTART_DELAY)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), delay)
                if self._stopping.is_set():
                    return
                started = loop.time()
                if revived := await self._revive():
                    child = revived
                    break

    async def _revive(self) -> Child | None:
        child = None
        try:
            child = await self._starter()
            await child.wait_ready(self._start_timeout)
            await child.go()
        except (DeploymentError, OSError) as error:
            self._log(f"{self.name} did not start: {error}")
            if child is not None:
                await child.stop(grace=1)
            return None
        if self._stopping.is_set():
            await child.stop(grace=1)
            return None
        self.child = child
        self._log(f"{self.name} is back (process {child.pid})")
        return child
