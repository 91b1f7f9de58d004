import asyncio
import heapq
import time
from collections.abc import Iterable
from typing import Any, Protocol

# Seconds between two looks at all connections.
INTERVAL = 1.0
# The part of the idle connections that is closed at once, the longest idle ones: looking for them is not for each.
SHARE = 20


class Watched(Protocol):
    idle_since: float | None
    transport: Any
    connections: Any

    def check(self, now: float) -> None: ...


class ConnectionWatch:
    """Looks after the connections of a server: ends those that stall, and idle ones where there are too many."""

    def __init__(self, most: int) -> None:
        """`most`: connections that may be open."""
        self._most = most
        self._connections: Iterable[Watched] = ()
        self._timer: asyncio.TimerHandle | None = None

    def opened(self, connection: Watched) -> None:
        self._connections = connection.connections
        if len(connection.connections) > self._most:
            self.make_room()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look)

    def make_room(self) -> None:
        """Closes the connections that have been idle for longest, if there are any."""
        idle = [connection for connection in self._connections if connection.idle_since is not None]
        count = len(idle) // SHARE + 1
        for connection in heapq.nsmallest(count, idle, key=lambda connection: connection.idle_since or 0.0):
            connection.transport.close()

    def _look(self) -> None:
        now = time.monotonic()
        connections = list(self._connections)
        for connection in connections:
            connection.check(now)
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look) if connections else None
