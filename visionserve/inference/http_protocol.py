import asyncio
import time
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from visionserve.inference.connection_watch import ConnectionWatch
from visionserve.inference.unanswered import leave, refuse

# Seconds for the head of a request, from its first byte or from the connection on, and its size.
HEAD_SECONDS = 10.0
MAX_HEAD_BYTES = 64 << 10
# A body, or the rest of one that nobody wants any more, has to bring so many bytes a second, on average over so many.
BODY_RATE = 500
BODY_SECONDS = 10.0
# Smaller bodies of refused requests are read and forgotten, and their connections stay open.
SMALL_BODY_BYTES = 1 << 20
# How long, and for how many bytes, a client may go on sending after it was refused, before it is cut off: one that is
# cut off at once would lose the answer.
LINGER_SECONDS = 2.0
LINGER_BYTES = 8 << 20


class WatchedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with limits on time and size for those who send slowly, endlessly, or nothing.

    To be used as `http` of a uvicorn.Config: functools.partial(WatchedProtocol, ConnectionWatch(...)).
    """

    def __init__(self, watch: ConnectionWatch, **options: Any) -> None:
        super().__init__(**options)
        self._watch = watch
        # A moment of time.monotonic, None while a request is worked on.
        self.idle_since: float | None = None
        self._head_since: float | None = None
        self._body_since: float | None = None
        # Of the head, or of the body since _body_since.
        self._received = 0
        self._keep_alive = True
        self._discarded: int | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._answer: _AnswerTransport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._answer = _AnswerTransport(self)
        self.idle_since = self._head_since = time.monotonic()
        self._watch.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            leave(cycle.scope)
        super().connection_lost(exc)
        # Each holds the other: without this, only the garbage collector would find them.
        self._answer = None

    def data_received(self, data: bytes) -> None:
        if self._discarded is not None:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self.transport.close()
            return
        self._received += len(data)
        self.idle_since = None
        super().data_received(data)
        if self._head_since is not None and self._received > MAX_HEAD_BYTES and self._is_free():
            self._refuse(431, f"The head of the request is larger than {MAX_HEAD_BYTES >> 10} KiB.")

    def on_message_begin(self) -> None:
        self._head_since = time.monotonic()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._received = 0
        self._head_since, self._body_since = None, time.monotonic()
        cycle: Any = self.cycle
        self._keep_alive = cycle.keep_alive
        cycle.transport = self._answer
        # An answer that comes before the end of such a body ends the connection, and says so.
        if self.expect_100_continue or not self._is_small():
            cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._body_since = None
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keep_alive
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._body_since is None and not self.pipeline:
            self.idle_since = time.monotonic()
        super().on_response_complete()

    def shutdown(self) -> None:
        self._keep_alive = False
        super().shutdown()

    def check(self, now: float) -> None:
        """Ends the connection if its client is too slow; called about every second."""
        if self._discarded is not None or self.transport.is_closing():
            return
        if self._head_since is not None and now - self._head_since > HEAD_SECONDS and self._is_free():
            if self._received:
                self._refuse(408, f"The head of the request did not come within {HEAD_SECONDS:g} seconds.")
            else:
                self.transport.close()
        elif self._body_since is not None and now - self._body_since > BODY_SECONDS:
            # What this side does not read cannot come.
            if self._received < BODY_RATE * BODY_SECONDS and not self.flow.read_paused:
                if self.cycle.response_started:
                    self.transport.close()
                else:
                    cycle: Any = self.cycle
                    refuse(cycle.scope, 408)
                    self._refuse(408, f"The body comes at less than {BODY_RATE} bytes a second.")
            self._received, self._body_since = 0, now

    def close(self) -> None:
        """After the answer: at once, or when the client has had time to read it while it still sends its body."""
        if self._body_since is None:
            self.transport.close()
        else:
            self._close_gently()

    def _unsupported_upgrade_warning(self) -> None:
        """None: who asks for another protocol is answered in this one (RFC 9110, 7.8), and needs nothing installed."""

    def _is_free(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_small(self) -> bool:
        for name, value in self.headers:
            if name == b"content-length":
                return int(value) <= SMALL_BODY_BYTES
            if name == b"transfer-encoding":
                return False
        return True

    def _refuse(self, status: int, sentence: str) -> None:
        body = orjson.dumps({"error": sentence})
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self._close_gently()

    def _close_gently(self) -> None:
        if self._discarded is None and not self.transport.is_closing():
            self._discarded = 0
            self.transport.write_eof()
            self._linger = self.loop.call_later(LINGER_SECONDS, self.transport.close)


class _AnswerTransport:
    """What the answer to a request is written to; closing it lets its client read it first."""

    def __init__(self, protocol: WatchedProtocol) -> None:
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing
        self.close = protocol.close
