import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from visionserve.errors import DeploymentError
from visionserve.lifeline import LIFELINE_FD

_LINE = 1 << 20


class Child:
    """A process of a replica at the other end of a lifeline: started, watched, its output logged line by line."""

    def __init__(self, process: asyncio.subprocess.Process, lifeline: socket.socket, name: str) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._lifeline = lifeline
        self._output: asyncio.Task | None = None

    @classmethod
    async def start(
        cls,
        name: str,
        module: str,
        arguments: Sequence[str],
        log: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> "Child":
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **(environment or {}), LIFELINE_FD: str(theirs.fileno())},
                pass_fds=(theirs.fileno(), *descriptors),
                # Its own group: a Ctrl-C on the terminal is for the supervisor, which drains first.
                start_new_session=True,
                limit=_LINE,
            )
        child = cls(process, ours, name)
        child._output = asyncio.create_task(child._copy_output(log))
        return child

    async def wait_ready(self, timeout: float) -> None:
        """Raises DeploymentError, with the child's own sentence if it gave one, when it fails or takes too long."""
        try:
            message = await asyncio.wait_for(self._message(), timeout)
        except asyncio.TimeoutError:
            raise DeploymentError(f"The {self.name} was not ready after {timeout:g} s.") from None
        if message is None:
            code = await self._process.wait()
            raise DeploymentError(f"The {self.name} ended with code {code} while it was starting.")
        if message["event"] == "failed":
            raise DeploymentError(message["error"])

    async def go(self) -> None:
        await asyncio.get_running_loop().sock_sendall(self._lifeline, b"go\n")

    async def wait(self) -> int:
        code = await self._process.wait()
        if self._output is not None:
            await self._output
        self._lifeline.close()
        return code

    async def close(self) -> None:
        """SIGTERM; returns when the child has said that it takes no new connection, or is gone."""
        self._terminate()
        await self._message()

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds."""
        self._terminate()
        try:
            await asyncio.wait_for(self._process.wait(), grace)
        except asyncio.TimeoutError:
            self._process.kill()
        await self.wait()

    def _terminate(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()

    async def _message(self) -> dict[str, Any] | None:
        """The child's next message; None when it is gone."""
        received = b""
        while not received.endswith(b"\n"):
            try:
                data = await asyncio.get_running_loop().sock_recv(self._lifeline, 65536)
            except OSError:
                return None
            if not data:
                return None
            received += data
        return json.loads(received)

    async def _copy_output(self, log: Callable[[str], None]) -> None:
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:
                log(f"{self.name}: (a line of more than {_LINE} bytes was left out)")
                continue
            if not line:
                return
            log(f"{self.name}: {line.decode(errors='replace').rstrip()}")
