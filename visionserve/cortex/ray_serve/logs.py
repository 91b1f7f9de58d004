import heapq
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from visionserve.cortex.ray_serve.application import DEPLOYMENT
from visionserve.cortex.ray_serve.cluster import Cluster, Node, connected
from visionserve.cortex.ray_serve.records import RayStore
from visionserve.errors import DeploymentError

POLL_SECONDS = 0.5
READ_SECONDS = 30.0
STAMP = re.compile(r"^[A-Z]+ (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+) ")

Line = tuple[str, str, str]


@dataclass
class NodeLogs:
    """How far the logs of the replicas on one node have been read. `offsets`: file name -> bytes."""

    node: Node
    offsets: dict[str, int] = field(default_factory=dict)

    def ask(self, application: str) -> Any:
        """A reference to file name -> (new offset, new text)."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(self.node.id, soft=False)
        read = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(_reader())
        return read.remote(f"replica_{application}_{DEPLOYMENT}_", self.offsets)

    def lines(self, answer: dict[str, tuple[int, str]]) -> Iterator[Line]:
        """(time, replica, line), in the order of each file; a line without a time of its own has that before it."""
        for name, (offset, text) in sorted(answer.items()):
            self.offsets[name] = offset
            replica = f"{name.removesuffix('.log').rpartition('_')[2]}@{self.node.address}"
            stamp = ""
            for line in text.splitlines():
                found = STAMP.match(line)
                stamp = found[1] if found else stamp
                yield stamp, replica, line


def lines(name: str, store: RayStore, follow: bool) -> Iterator[str]:
    """The lines of all replicas that the cluster's living nodes have had, by time, each with its replica and node.

    With `follow` without end. Raises DeploymentError for an unknown API.
    """
    deployment = store.get(name)
    with connected(deployment.address) as cluster:
        known: dict[str, NodeLogs] = {}
        while True:
            for _, replica, line in heapq.merge(*_new(cluster, name, known), key=lambda entry: entry[0]):
                yield f"{replica}: {line}\n"
            if not follow:
                return
            time.sleep(POLL_SECONDS)


def _new(cluster: Cluster, name: str, known: dict[str, NodeLogs]) -> list[list[Line]]:
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    for node in cluster.nodes():
        known.setdefault(node.id, NodeLogs(node))
    asked = [(logs, logs.ask(name)) for logs in known.values()]
    found: list[list[Line]] = []
    for logs, reference in asked:
        try:
            answer = ray.get(reference, timeout=READ_SECONDS)
        except GetTimeoutError:
            late = f"the log of this node did not come within {READ_SECONDS:g} s"
            found.append([("", logs.node.address, late)])
            continue
        except RayError:
            # The node is gone, and its files with it.
            del known[logs.node.id]
            continue
        by_file: dict[str, list[Line]] = {}
        for line in logs.lines(answer):
            by_file.setdefault(line[1], []).append(line)
        found += by_file.values()
    if not known:
        raise DeploymentError(f"No node of the Ray cluster at {cluster.address} hands out its logs.")
    return found


def _reader() -> Any:
    """The function for a node, which need not have visionserve: Ray sends a function within another one whole."""

    def read(prefix: str, offsets: dict[str, int]) -> dict[str, tuple[int, str]]:
        from pathlib import Path

        import ray

        folder = Path(ray._private.worker.global_worker.node.get_logs_dir_path()) / "serve"
        news = {}
        for path in folder.glob(f"{prefix}*.log"):
            with path.open("rb") as file:
                start = offsets.get(path.name, 0)
                file.seek(start if start <= path.stat().st_size else 0)
                text = file.read()
                # The end of a line that is being written comes next time.
                whole = text.rfind(b"\n") + 1
                news[path.name] = (file.tell() - len(text) + whole, text[:whole].decode(errors="replace"))
        return news

    return read
