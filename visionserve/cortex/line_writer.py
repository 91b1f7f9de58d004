import os
import select
import threading
import time
from collections import deque
from contextlib import suppress

# Seconds that lines are gathered for: one write for many lines.
PAUSE = 0.05
LONGEST_QUEUE = 20_000
CLOSE_SECONDS = 2.0


class LineWriter:
    """Writes lines to a descriptor from a thread of its own: a reader that stalls holds up no request.

    Beyond LONGEST_QUEUE waiting lines new ones are dropped, and a line says how many.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._dropped = 0
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """`line`: without its line break."""
        if len(self._lines) >= LONGEST_QUEUE:
            self._dropped += 1
            return
        self._lines.append(line.encode(errors="replace") + b"\n")
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Returns when all is written, or after CLOSE_SECONDS."""
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        # Where nobody reads any more, the supervisor is gone, and this process ends with it.
        with suppress(OSError):
            while not self._closing:
                self._wake.wait()
                if not self._closing:
                    time.sleep(PAUSE)
                self._wake.clear()
                self._write_all()
            self._write_all()

    def _write_all(self) -> None:
        batch = b""
        while self._lines:
            line = self._lines.popleft()
            # In small pieces: what a reader that stalls leaves waits in the queue, and counts for its limit.
            if batch and len(batch) + len(line) > select.PIPE_BUF:
                os.write(self._descriptor, batch)
                batch = b""
            batch += line
        if batch:
            os.write(self._descriptor, batch)
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            os.write(self._descriptor, f"WARNING {dropped} access lines were dropped: the log is too slow\n".encode())
