import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from visionserve.errors import DeploymentError

BACKLOG = 2048
PORTS_TRIED = 100


def bind_next_free(host: str, port: int) -> socket.socket:
    """A socket listening on the first free port from `port` on (0: any). Raises DeploymentError when there is none."""
    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        listener = _socket(host)
        try:
            listener.bind((host, candidate))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise DeploymentError(f"Cannot listen on {host} port {candidate}: {error.strerror}.") from error
            continue
        return listener
    raise DeploymentError(f"No port from {port} to {port + PORTS_TRIED - 1} is free on {host}: name one with --port.")


def bind_beside(theirs: socket.socket, host: str) -> socket.socket:
    """A socket at the port of another one of this user that listens at another address, such as all addresses.

    It listens from listen_beside() on: with the closer address, it would take the other's connections at once.
    Raises OSError where the system lets no two share a port.
    """
    listener = _socket(host)
    try:
        with _sharing(theirs, listener):
            listener.bind((host, theirs.getsockname()[1]))
    except OSError:
        listener.close()
        raise
    return listener


def listen_beside(theirs: socket.socket, listener: socket.socket) -> None:
    """Raises OSError."""
    with _sharing(theirs, listener):
        listener.listen(BACKLOG)


def _socket(host: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return listener


@contextmanager
def _sharing(*listeners: socket.socket) -> Iterator[None]:
    """For no longer than needed: another program of this user that asks for it may listen at the port, too (as Linux
    remembers that the port was shared, it may also do so later)."""
    try:
        for listener in listeners:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield
    finally:
        for listener in listeners:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
