import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from io import FileIO
from typing import Any

from visionserve.errors import DeploymentError
from visionserve.lifeline import LIFELINE_FD, LINES_FD

_LINE = 1 << 20
# Seconds for the last lines of a child that has ended.
_LAST_LINES = 1.0


class Child:
    """A process of a replica at the other end of a lifeline: started, watched, its output logged line by line."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        lifeline: socket.socket,
        outputs: Sequence[tuple[asyncio.StreamReader, asyncio.BaseTransport]],
        name: str,
        log: Callable[[str], None],
    ) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._lifeline = lifeline
        self._pipes = [pipe for _, pipe in outputs]
        self._copying = [asyncio.create_task(self._copy_output(output, log)) for output, _ in outputs]
        self._ended = False

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
        with ExitStack() as ours, ExitStack() as theirs:
            lifeline, their_lifeline = socket.socketpair()
            ours.enter_context(lifeline)
            theirs.enter_context(their_lifeline)
            lifeline.setblocking(False)
            output, their_output = await _pipe(ours, theirs)
            lines, their_lines = await _pipe(ours, theirs)
            inherited = {LIFELINE_FD: their_lifeline.fileno(), LINES_FD: their_lines.fileno()}
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                # Not asyncio's own pipe: it waits for all who hold the other end before it says that the child ended.
                stdout=their_output,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **(environment or {}), **{name: str(each) for name, each in inherited.items()}},
                pass_fds=(*inherited.values(), *descriptors),
                # Its own group: a Ctrl-C on the terminal is for the supervisor, which drains first.
                start_new_session=True,
            )
            ours.pop_all()
        return cls(process, lifeline, [output, lines], name, log)

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
        """Its exit code, when it has ended and all that it had started in its group is killed."""
        code = await self._process.wait()
        if not self._ended:
            self._ended = True
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        # Something that left the group may still hold the pipe.
        await asyncio.wait(self._copying, timeout=_LAST_LINES)
        for copying, pipe in zip(self._copying, self._pipes, strict=True):
            copying.cancel()
            pipe.close()
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
            self.kill()
        await self.wait()

    def kill(self) -> None:
        """SIGKILL, which ends a process that is stopped too."""
        if self._process.returncode is None:
            self._process.kill()

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

    async def _copy_output(self, output: asyncio.StreamReader, log: Callable[[str], None]) -> None:
        while True:
            try:
                line = await output.readline()
            except ValueError:
                log(f"{self.name}: (a line of more than {_LINE} bytes was left out)")
                continue
            if not line:
                return
            log(f"{self.name}: {line.decode(errors='replace').rstrip()}")


async def _pipe(
    ours: ExitStack, theirs: ExitStack
) -> tuple[tuple[asyncio.StreamReader, asyncio.BaseTransport], FileIO]:
    """The end to read from, and the one for the child."""
    read, write = os.pipe()
    pipe = ours.enter_context(FileIO(read, "rb"))
    their_pipe = theirs.enter_context(FileIO(write, "wb"))
    output = asyncio.StreamReader(limit=_LINE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(output), pipe
    )
    ours.callback(transport.close)
    return (output, transport), their_pipe
