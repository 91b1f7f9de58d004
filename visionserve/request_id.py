"""The id of a request: in the answer's x-request-id, and in each log line that is written on the request's behalf."""

import re
import secrets
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"
# Printable ASCII: what else a client sends would have to be escaped wherever the id is written.
SANE = re.compile(rb"[ -~]{1,128}")

request_id: ContextVar[str] = ContextVar("request_id", default="")


class RequestIds:
    """Around an ASGI application: gives each request the id that its client sent, if that is sane, else a new one.

    While the request is worked on, `request_id` holds it, also in threads that run in a copy of its context.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        chosen = given if SANE.fullmatch(given) else secrets.token_hex(16).encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                others = [header for header in message.get("headers", ()) if header[0].lower() != HEADER]
                message["headers"] = [*others, (HEADER, chosen)]
            await send(message)

        token = request_id.set(chosen.decode("ascii"))
        try:
            await self._application(scope, receive, send_with_id)
        finally:
            request_id.reset(token)
