"""The control socket of a supervisor: one JSON line asks, one JSON line answers."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from visionserve.errors import DeploymentError

Handler = Callable[[str], Awaitable[dict[str, Any]]]
SOCKET = "control.sock"
_ONE_LINE = 65536
# Seconds for each step of a question: a supervisor on a busy machine may wait some for a core.
_PATIENCE = 10.0


async def listen(
    path: Path, handler: Handler, listener: Callable[[], socket.socket], log: Callable[[str], None]
) -> asyncio.AbstractServer:
    """Serves `handler(command)`; the command "listener" is answered with a descriptor of the API's listening socket."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            command = json.loads(await reader.readline())["command"]
            if command == "listener":
                with writer.get_extra_info("socket").dup() as connection:
                    socket.send_fds(connection, [b"{}\n"], [listener().fileno()])
            else:
                writer.write(json.dumps(await handler(command)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError, KeyError) as error:
            log(f"supervisor: a caller could not be answered: {error!r}")
        finally:
            writer.close()

    server = await asyncio.start_unix_server(answer, str(path))
    path.chmod(0o600)
    return server


def ask(path: Path, command: str) -> dict[str, Any]:
    """Raises DeploymentError when the supervisor does not answer within ten seconds."""
    with _connect(path, command) as connection:
        try:
            return json.loads(connection.makefile("rb").readline(_ONE_LINE))
        except (OSError, ValueError) as error:
            raise DeploymentError(f"The supervisor at {path} did not answer {command!r}: {error}.") from error


def take_listener(path: Path) -> socket.socket:
    """A descriptor of the listening socket that another supervisor serves, so that no connection is lost in between."""
    with _connect(path, "listener") as connection:
        try:
            _, descriptors, _, _ = socket.recv_fds(connection, 16, 1)
        except OSError as error:
            raise DeploymentError(f"The supervisor at {path} did not hand over its port: {error}.") from error
    if not descriptors:
        raise DeploymentError(f"The supervisor at {path} did not hand over its port.")
    return socket.socket(fileno=descriptors[0])


def _connect(path: Path, command: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_PATIENCE)
    try:
        connection.connect(str(path))
        connection.sendall(json.dumps({"command": command}).encode() + b"\n")
    except OSError as error:
        connection.close()
        raise DeploymentError(f"The supervisor at {path} does not answer: {error}.") from error
    return connection
