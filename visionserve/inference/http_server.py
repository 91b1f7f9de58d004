import asyncio
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from visionserve import descriptors
from visionserve.inference.connection_watch import ConnectionWatch
from visionserve.inference.http_protocol import WatchedProtocol
from visionserve.request_id import RequestIds


class HttpServer:
    """An HTTP application on a listening socket, on the running event loop; its answers have an x-request-id."""

    def __init__(self, application: ASGIApp, listener: socket.socket, grace: float) -> None:
        """`grace`: seconds that `stop` waits for the requests in flight."""
        descriptors.raise_limit()
        protocol: Any = partial(WatchedProtocol, ConnectionWatch(descriptors.connections()))
        config = uvicorn.Config(
            RequestIds(application),
            http=protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=math.ceil(grace),
        )
        self._server = _Server(config)
        self._listener = listener

    async def start(self) -> None:
        """Returns when requests are answered."""
        self._running = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.started and not self._running.done():
            await asyncio.sleep(0.01)
        if self._running.done():
            self._running.result()

    async def stop(self) -> None:
        """Takes no new connection, answers the requests in flight."""
        self._server.should_exit = True
        await self._running


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Who started this handles signals: it has more to stop."""
        yield
