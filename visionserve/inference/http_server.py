import asyncio
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visionserve import descriptors
from visionserve.inference.connection_watch import ConnectionWatch
from visionserve.inference.http_protocol import WatchedProtocol
from visionserve.request_id import RequestIds

# Seconds for the answers to requests that are given up at the end of the grace.
LAST_WORDS = 0.5


class HttpServer:
    """An HTTP application on a listening socket, on the running event loop; its answers have an x-request-id."""

    def __init__(self, application: ASGIApp, listener: socket.socket, grace: float) -> None:
        """`grace`: seconds that `stop` waits for the requests in flight; what takes longer is answered 503."""
        descriptors.raise_limit()
        protocol: Any = partial(WatchedProtocol, ConnectionWatch(descriptors.connections()))
        config = uvicorn.Config(
            RequestIds(_LastWords(application)),
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
        """Takes no new connection, answers the requests in flight; takes LAST_WORDS more than the grace at most."""
        self._server.should_exit = True
        await self._running
        await last_words(self._server)


async def last_words(server: uvicorn.Server) -> None:
    """After uvicorn's shutdown: the requests that it gave up are answered, in LAST_WORDS seconds at most."""
    if tasks := server.server_state.tasks:
        await asyncio.wait(tasks, timeout=LAST_WORDS)


class _LastWords:
    """Around an ASGI application: answers the requests that uvicorn gives up at the end of the grace.

    It cancels their tasks, and would answer them 500 and log a trace.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._application(scope, receive, send_and_note)
        except asyncio.CancelledError:
            # An answer that has begun is cut off: its connection is closed before its end.
            if not started:
                sentence = "The server is being stopped and could not wait for this request any longer: try again."
                await JSONResponse({"error": sentence}, 503, {"retry-after": "1"})(scope, receive, send)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Who started this handles signals: it has more to stop."""
        yield
