import socket
import time
from pathlib import Path

import psutil
from load import LoadError, last_line

START_S = 10


def wait_until_listening(process: psutil.Popen, port: int, log: Path) -> None:
    """Returns when `process` takes connections on `port` of 127.0.0.1; raises LoadError when it does not."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise LoadError(f"the server on port {port} did not start: {last_line(log.read_text())}") from error
            time.sleep(0.05)
