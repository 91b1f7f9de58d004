"""The line between a supervisor and a process that it started, from the process's side."""

import ctypes
import json
import os
import signal
import socket
import sys
import threading
from typing import Any

LIFELINE_FD = "VISIONSERVE_LIFELINE_FD"
# A second pipe for lines, which nothing that is printed can come between.
LINES_FD = "VISIONSERVE_LINES_FD"
# prctl(2)
_PR_SET_PDEATHSIG = 1


class Lifeline:
    """Tells the supervisor how the start went, and ends this process when the supervisor is gone.

    Protocol: one JSON object a line, child to supervisor: {"event": "ready"} or {"event": "failed", "error": ...}, and
    later {"event": "closed"} once no new connection is taken; supervisor to child: the line "go", once the child may
    take requests. End of file means that the other is gone.
    """

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection
        self._go = threading.Event()
        if connection is None:
            self._go.set()
        else:
            threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    @classmethod
    def from_environment(cls) -> "Lifeline":
        """The line given by the supervisor; without one (started by hand) every call here is a no-op."""
        descriptor = os.environ.pop(LIFELINE_FD, None)
        if descriptor is None:
            return cls(None)
        connection = socket.socket(fileno=int(descriptor))
        # What a predictor forks would otherwise hold the line, and this process would look alive after its end.
        os.register_at_fork(after_in_child=connection.close)
        if sys.platform == "linux":
            # A process that is stopped, or whose threads all wait for one, would not see the end of the file.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        return cls(connection)

    def ready(self) -> None:
        self._send({"event": "ready"})

    def closed(self) -> None:
        self._send({"event": "closed"})

    def failed(self, error: str) -> None:
        self._send({"event": "failed", "error": error})

    def wait_for_go(self) -> None:
        self._go.wait()

    def _send(self, message: dict[str, Any]) -> None:
        if self._connection is not None:
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def _watch(self) -> None:
        assert self._connection is not None
        while True:
            try:
                data = self._connection.recv(64)
            except OSError:
                data = b""
            if not data:
                os._exit(1)
            self._go.set()
