import socket

from visionserve.errors import DeploymentError


def listen(address: str) -> socket.socket:
    """A listening TCP socket; `address`: HOST:PORT, an IPv6 host in brackets.

    Raises DeploymentError when it is in use, also by a server that would share it, or is not of this machine.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        return socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise DeploymentError(f"Cannot listen on {address}: {reason}; choose another port or host.") from error


def check_free(address: str) -> None:
    """As `listen`, for a server that makes its own socket. Unix sockets are not looked at."""
    if not address.startswith("unix"):
        listen(address).close()
