"""Real Ray clusters for tests: of one node on 127.0.0.1, and of three nodes that act as three machines."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from tests.conftest import REPOSITORY, Machine, free_port, run, wait_for
from tests.hosts import Host, Network, network

RAY = Path(sys.executable).with_name("ray")
START_SECONDS = 90
ATTEMPTS = 3
OBJECT_STORE = 100_000_000
AGENT_PORTS = (
    "--dashboard-agent-grpc-port",
    "--dashboard-agent-listen-port",
    "--metrics-export-port",
    "--runtime-env-agent-port",
)
FIRST_AGENT_PORT = 8300
# What docs/ray.md tells an operator to set on the head, so that a machine without power is noticed within seconds.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
# Which node a process of Ray runs on: it has this from the `ray start` that began it.
NODE = "VISIONSERVE_TEST_NODE"


class RayNode:
    """One `ray start`, on a host of its own or beside others on this one."""

    def __init__(self, name: str, host: Host, folder: Path, options: list[object]) -> None:
        """Returns at once; `joined` waits."""
        self.name = name
        self.host = host
        self._log = folder / f"{name}.log"
        own = ["--node-ip-address", host.address, "--object-store-memory", OBJECT_STORE]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                host.command(RAY, "start", "--block", "--disable-usage-stats", *own, *options, folder=folder),
                env={**os.environ, **HEALTH, NODE: name, "RAY_USAGE_STATS_ENABLED": "0"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def joined(self) -> bool:
        """Waits until the node is one of the cluster's; False where it did not come so far."""
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            if "--block" in self._log.read_text():
                return True
            time.sleep(0.1)
        return False

    def log(self) -> str:
        return f"{self.name}: {self._log.read_text()[-2000:]}"

    def kill(self) -> None:
        """SIGKILL for every process of the node, and its network is gone with them where it has one."""
        processes = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        self.host.power_off()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        self._process.wait()
        psutil.wait_procs(processes, START_SECONDS)


class RayCluster:
    """Nodes of `cpus` CPUs each: the head, and others that come and go.

    `separate`: each node is a machine with a network of its own; else all are processes on 127.0.0.1.
    `address`: where the head's host finds the cluster.
    """

    def __init__(self, folder: Path, cpus: int, net: Network | None) -> None:
        self._folder = folder
        self._cpus = cpus
        self._network = net
        self._number = 0
        self._port = 6379 if net else free_port()
        self.nodes: list[RayNode] = []

    @property
    def separate(self) -> bool:
        return self._network is not None

    @property
    def head(self) -> RayNode:
        return self.nodes[0]

    @property
    def address(self) -> str:
        return f"{self.head.host.address}:{self._port}"

    def start(self, nodes: int) -> None:
        client, dashboard = (10001, 8265) if self._network else (free_port(), free_port())
        ports = ["--port", self._port, "--dashboard-port", dashboard, "--ray-client-server-port", client]
        self._add(1, "--head", *ports)
        self._add(nodes - 1, "--address", self.address)

    def kill(self, node: RayNode) -> None:
        self.nodes.remove(node)
        node.kill()

    def stop(self) -> None:
        for node in reversed(self.nodes):
            node.kill()

    def machine(self, home: Path) -> "HeadMachine":
        return HeadMachine(home, self)

    def _add(self, count: int, *options: object) -> None:
        """Starts nodes side by side.

        Ray gives a node's agents 15 s to start, which may not do on a machine that is busy with other tests.
        """
        for attempt in range(1, ATTEMPTS + 1):
            added = [self._start_node(*options) for _ in range(count)]
            late = [node for node in added if not node.joined()]
            assert not late or attempt < ATTEMPTS, "\n".join(node.log() for node in late)
            for node in late:
                self.kill(node)
            count = len(late)

    def _start_node(self, *options: object) -> RayNode:
        self._number += 1
        host = self._network.add_host() if self._network else Host()
        name = f"node{self._number}"
        # Nodes that start beside each other in one folder take the same names for their sockets.
        own = ["--num-cpus", self._cpus, "--temp-dir", "/tmp/ray" if self._network else self._folder / name]
        # With ports that are told, a node need not wait for its agents, to which Ray would give 15 s to name theirs.
        for number, port in enumerate(AGENT_PORTS):
            own += [port, FIRST_AGENT_PORT + number if self._network else free_port()]
        node = RayNode(name, host, self._folder, [*own, *options])
        self.nodes.append(node)
        return node


class HeadMachine(Machine):
    """The `cortex` command on the cluster's head."""

    def __init__(self, home: Path, cluster: RayCluster) -> None:
        super().__init__(home)
        self.environment |= {"RAY_ADDRESS": cluster.address, "RAY_USAGE_STATS_ENABLED": "0"}
        self._host = cluster.head.host

    def cortex(self, *arguments: object, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "visionserve.cortex.cli", *arguments]
        return run(self._host.command(*command, folder=cwd), env=self.environment)


def started_cluster(nodes: int, cpus: int, separate: bool) -> Iterator[RayCluster]:
    """For a fixture. `separate`: as machines of their own, where this user may make them."""
    # Unix sockets live in it where nodes are not separate: an address of one holds 107 bytes.
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"ray-{os.getpid()}-", dir="/tmp"))
    cluster = RayCluster(folder, cpus, network(folder) if separate else None)
    try:
        cluster.start(nodes)
        yield cluster
    finally:
        cluster.stop()
        # What a node was starting as it was killed writes there until it finds that the node is gone.
        wait_for(lambda: _removed(folder))


def _removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _sweep() -> None:
    """Removes what test runs that were killed have left on disk."""
    for folder in Path("/tmp").glob("ray-*-*"):
        owner = folder.name.split("-")[1]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
