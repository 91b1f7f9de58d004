"""The project's CPU spec on a Ray cluster of one node, on this machine and in a state folder of its own."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from contestants import ask, check_labels
from cost import used
from deployment import REPOSITORY, cortex, free_port
from load import closed_loop

SHOWN_MS = 0.05


@dataclass(frozen=True)
class Scale:
    """`cpus`: of each replica, and its engine's threads."""

    name: str
    replicas: int
    cpus: int


class RayApi:
    def __init__(self, name: str, url: str, body: Path, clients: int) -> None:
        self.name = name
        self._url, self._body, self._clients = url, body, clients

    def per_second(self, seconds: float) -> float:
        return closed_loop(self._url, self._body, self._clients, seconds).per_second

    def costs(self, seconds: float) -> dict[str, float]:
        """CPU ms of one request by process of the cluster, but those that hardly take part."""
        before = cluster_processes()
        answers = closed_loop(self._url, self._body, self._clients, seconds).count
        costs: dict[str, float] = {}
        for process, spent in spent_since(before).items():
            name = name_of(process)
            costs[name] = costs.get(name, 0) + 1000 * spent / answers
        return {name: ms for name, ms in sorted(costs.items(), key=lambda item: -item[1]) if ms >= SHOWN_MS}


class RayMachine:
    """A Ray cluster of this machine's cores, and what is deployed on it until `stop`."""

    def __init__(self, address: str, folder: Path, body: Path, clients: int) -> None:
        self._environment = {**os.environ, "RAY_ADDRESS": address, "XDG_STATE_HOME": str(folder / "state")}
        self._folder, self._body, self._clients = folder, body, clients
        self._port = free_port()

    def deploy(self, engine: str, scale: Scale) -> RayApi:
        (api,) = yaml.safe_load((REPOSITORY / "cortex_cpu.yaml").read_text())
        api["name"] = scale.name
        api["compute"]["cpu"] = scale.cpus
        api["predictor"]["model_path"] = str(REPOSITORY / "models" / "resnet50")
        api["autoscaling"] |= {"min_replicas": scale.replicas, "max_replicas": scale.replicas}
        project = self._folder / scale.name
        labels = project / api["predictor"]["config"]["classes"]
        labels.parent.mkdir(parents=True)
        labels.write_bytes((REPOSITORY / api["predictor"]["config"]["classes"]).read_bytes())
        (project / "predictor.py").write_bytes((REPOSITORY / "predictor.py").read_bytes())
        (project / "cortex.yaml").write_text(yaml.safe_dump([api]))
        options = ["--env", "ray", "--engine", engine, "--port", self._port]
        cortex(self._environment, "deploy", project / "cortex.yaml", *options)
        url = json.loads(cortex(self._environment, "get", scale.name, "-o", "json"))[0]["endpoint"]
        check_labels(ask(url, self._body), engine, url)
        return RayApi(scale.name, url, self._body, self._clients)

    def delete(self, api: RayApi) -> None:
        cortex(self._environment, "delete", api.name)


@contextmanager
def ray_machine(body: Path, clients: int, cpus: int) -> Iterator[RayMachine]:
    """`cpus`: as many as Ray may give to replicas; they are numbers to schedule by, whatever the machine has."""
    sys.path.insert(0, str(REPOSITORY))
    from tests.ray_cluster import started_cluster

    running = started_cluster(nodes=1, cpus=cpus, separate=False)
    cluster = next(running)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield RayMachine(cluster.address, Path(folder), body, clients)
    finally:
        running.close()


def idle_cores(seconds: float) -> float:
    """What the cluster takes of a core while nobody asks it."""
    before = cluster_processes()
    time.sleep(seconds)
    return sum(spent_since(before).values()) / seconds


def cluster_processes() -> dict[psutil.Process, float]:
    """All that descend from this process, and the CPU seconds that each has used."""
    seconds = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            seconds[process] = used(process)
    return seconds


def spent_since(before: dict[psutil.Process, float]) -> dict[psutil.Process, float]:
    """CPU seconds of those that still live."""
    return {process: total - before.get(process, 0) for process, total in cluster_processes().items()}


def name_of(process: psutil.Process) -> str:
    try:
        words = process.cmdline()
    except psutil.NoSuchProcess:
        return "ended"
    # Ray names its workers ray::ACTOR, and ray::ACTOR.method while they work; its agents are Python files.
    if words and words[0].startswith("ray::"):
        return words[0].partition(".")[0]
    return " ".join(Path(word).name for word in words if not word.startswith("-"))[:60]
