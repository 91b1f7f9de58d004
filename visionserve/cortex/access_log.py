import json
import re
import time
from collections.abc import Callable
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visionserve.cortex.log_format import LogFormat, now, record
from visionserve.inference.unanswered import unanswered_status
from visionserve.request_id import request_id

LONGEST_PATH = 256
_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")


class InFlightTotal(Protocol):
    def total(self) -> int: ...


class AccessLog:
    """Around an ASGI application: one line for each request, when its answer has been sent. To be inside RequestIds.

    The line has neither headers nor bodies nor the query, any of which may hold secrets. `in_flight` is the number of
    requests that were in flight as this one came.
    """

    def __init__(
        self, application: ASGIApp, write: Callable[[str], None], in_flight: InFlightTotal, form: LogFormat
    ) -> None:
        """`write`: takes a line; it must not wait."""
        self._application = application
        self._write = write
        self._in_flight = in_flight
        self._line = _json if form == "json" else _text

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        started = time.perf_counter()
        others = self._in_flight.total()
        status = bytes_in = bytes_out = 0

        async def counted_receive() -> Message:
            nonlocal bytes_in
            message = await receive()
            bytes_in += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status, bytes_out
            if message["type"] == "http.response.start":
                status = message["status"]
            elif scope["method"] != "HEAD":
                bytes_out += len(message.get("body", b""))
            await send(message)

        try:
            await self._application(scope, counted_receive, counted_send)
        except Exception:
            status = status or 500
            raise
        finally:
            seconds = time.perf_counter() - started
            self._write(self._line(scope, status or unanswered_status(scope), bytes_in, bytes_out, seconds, others))


def _text(scope: Scope, status: int, bytes_in: int, bytes_out: int, seconds: float, in_flight: int) -> str:
    """logfmt, as Heroku and many since write it: key=value, quoted where it needs to be."""
    return (
        f"access request_id={_value(request_id.get())} client={_client(scope)} method={scope['method']} "
        f"path={_value(_path(scope))} status={status} bytes_in={bytes_in} bytes_out={bytes_out} "
        f"duration_ms={1000 * seconds:.1f} in_flight={in_flight}"
    )


def _json(scope: Scope, status: int, bytes_in: int, bytes_out: int, seconds: float, in_flight: int) -> str:
    return record(
        {
            "time": now(),
            "level": "INFO",
            "message": "access",
            "request_id": request_id.get(),
            "client": _client(scope),
            "method": scope["method"],
            "path": _path(scope),
            "status": status,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "duration_ms": round(1000 * seconds, 1),
            "in_flight": in_flight,
        }
    )


def _client(scope: Scope) -> str:
    if not scope.get("client"):
        return "-"
    host, port = scope["client"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _path(scope: Scope) -> str:
    """As it was sent, percent-encoded and without the query."""
    raw = scope.get("raw_path") or scope["path"].encode()
    return raw.partition(b"?")[0][:LONGEST_PATH].decode("latin-1")


def _value(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
