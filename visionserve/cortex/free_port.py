import errno
import socket

from visionserve.errors import DeploymentError

BACKLOG = 2048
PORTS_TRIED = 100


def bind_next_free(host: str, port: int) -> socket.socket:
    """A socket listening on the first free port from `port` on (0: any). Raises DeploymentError when there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
