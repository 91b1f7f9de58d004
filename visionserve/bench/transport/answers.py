from typing import NamedTuple

from httptools import HttpResponseParser

from visionserve.bench.transport.failures import Failure


class Answer(NamedTuple):
    """What came back for one request: a status and a body, or the failure that stood in the way.

    `location` is where a redirect points to; `received` counts bytes of head and body.
    """

    status: int
    body: bytes
    failure: Failure | None = None
    location: str = ""
    received: int = 0


class AnswerReader:
    """Reads the answers of one connection, one after the other. The parser, llhttp, calls the on_... methods back."""

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        self.complete = False
        self.keep_alive = True
        self.location = ""
        self.received = 0
        self._parts: list[bytes] = []
        self._in_body = False
        self._framed = False

    def answer(self) -> Answer:
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        return Answer(self._parser.get_status_code(), body, None, self.location, self.received)

    def feed(self, data: bytes) -> None:
        """Takes what was received, b"" for the end of the connection. Raises TRANSPORT_ERRORS."""
        if data:
            self.received += len(data)
            self._parser.feed_data(data)
        elif self._in_body and not self._framed:
            # Without a length, the body ends where the connection does (RFC 9112, 6.3).
            self.complete, self.keep_alive = True, False
        else:
            raise ConnectionResetError("the server closed the connection before its answer was complete")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._framed = True
        elif name == b"location":
            self.location = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._in_body = self._parser.get_status_code() >= 200

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_complete(self) -> None:
        # 100 Continue and its kind come before the answer proper.
        if self._parser.get_status_code() >= 200:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()
