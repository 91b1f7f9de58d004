import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionserve.errors import DeploymentError, MissingError, UsageError, install_command

CONNECT_SECONDS = 5.0
# The oldest with max_surge_percent, which no update could do without.
OLDEST_RAY = (2, 60)
HEAD = "node:__internal_head__"


@dataclass(frozen=True)
class Node:
    """A live node. `total` and `free`: resource name -> amount; `metrics`: the URL of its Prometheus page."""

    id: str
    address: str
    is_head: bool
    total: dict[str, float]
    free: dict[str, float]
    metrics: str

    def could_hold(self, wanted: dict[str, float]) -> bool:
        return _fits(wanted, self.total)

    def has_room_for(self, wanted: dict[str, float]) -> bool:
        return _fits(wanted, self.free)


class Cluster:
    """A running Ray cluster that this process is connected to."""

    def __init__(self, address: str) -> None:
        self.address = address

    def nodes(self) -> list[Node]:
        import ray
        from ray._private.state import available_resources_per_node

        free = available_resources_per_node()
        return [
            Node(
                id=node["NodeID"],
                address=node["NodeManagerAddress"],
                is_head=HEAD in node["Resources"],
                total=node["Resources"],
                free=free.get(node["NodeID"], {}),
                metrics=f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics",
            )
            for node in ray.nodes()
            if node["Alive"]
        ]

    def serve_details(self) -> dict[str, Any]:
        """ray.serve.schema.ServeInstanceDetails as data; empty where Serve does not run."""
        from ray.serve.context import _get_global_client

        client = _get_global_client(raise_if_no_controller_running=False)
        return client.get_serve_details() if client is not None else {}

    def application(self, name: str) -> dict[str, Any]:
        """ray.serve.schema.ApplicationDetails as data; empty where there is none of that name."""
        return self.serve_details().get("applications", {}).get(name, {})


@contextmanager
def connected(address: str | None = None) -> Iterator[Cluster]:
    """`address`: HOST:PORT, of a record; None for RAY_ADDRESS, or else the cluster that this machine is a node of.

    Raises MissingError where Ray is not installed, UsageError for what is no address, DeploymentError where no cluster
    answers.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError:
        raise MissingError(f"Ray is not installed: run {install_command('ray')}.") from None
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < OLDEST_RAY:
        oldest = ".".join(map(str, OLDEST_RAY))
        raise MissingError(f"Ray {ray.__version__} is older than {oldest}: run {install_command('ray')}.")
    given = address is not None
    address = address or os.environ.get("RAY_ADDRESS", "auto")
    if address == "auto":
        address = _own_cluster()
    if why := silence(address):
        remedy = "forget its APIs with cortex delete" if given else "correct RAY_ADDRESS"
        raise DeploymentError(
            f"No Ray cluster answers at {address} ({why}): start one with ray start --head, or {remedy}."
        )
    _quiet_serve()
    try:
        with _in_the_root_folder(), _own_sigterm():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DeploymentError(f"The Ray cluster at {address} cannot be used from here: {reason}.") from error
    try:
        yield Cluster(address)
    finally:
        ray.shutdown()


def _quiet_serve() -> None:
    """Its import sets a level, so that this comes after it."""
    import ray.serve

    logging.getLogger(ray.serve.__name__).setLevel(logging.ERROR)


@contextmanager
def _in_the_root_folder() -> Iterator[None]:
    """Ray has its processes on the nodes look for modules in the driver's working folder before the packages that they
    are given: a checkout of visionserve there would run in place of the version that was deployed."""
    before = Path.cwd()
    os.chdir(before.anchor)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray would put its own handler, which ends this process, in the place of one that it has."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before not in (None, signal.SIG_DFL):
            signal.signal(signal.SIGTERM, before)


def _own_cluster() -> str:
    from ray._private.services import find_gcs_addresses

    addresses = sorted(find_gcs_addresses())
    if len(addresses) == 1:
        return addresses[0]
    if addresses:
        raise DeploymentError(
            f"This machine is a node of several Ray clusters, {', '.join(addresses)}: set RAY_ADDRESS to one of them."
        )
    raise DeploymentError(
        "No Ray cluster runs here: start one with ray start --head, or set RAY_ADDRESS to HOST:PORT of one."
    )


def silence(address: str) -> OSError | None:
    """Why no cluster answers at HOST:PORT, if none does; Ray itself would wait for many minutes.

    Raises UsageError for what is no address."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and "/" not in host):
        raise UsageError(f"RAY_ADDRESS is {address!r}, not HOST:PORT of a cluster that this machine is a node of.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        return error
    return None


def _fits(wanted: dict[str, float], room: dict[str, float]) -> bool:
    return all(room.get(name, 0) >= amount for name, amount in wanted.items())
