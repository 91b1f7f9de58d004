"""A real standalone Flink cluster on 127.0.0.1, of the scripts that the package apache-flink carries."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.conftest import free_port, wait_for

START_SECONDS = 300
# Small Java processes that are soon up: four of them share a machine with Python workers that do the work.
JAVA = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
# Python workers outlive a Java process that is killed. So what starts a node waits on a pipe that only this process
# holds open: at its end, or with the node, the whole process group dies.
GUARD = '("$@" </dev/null; kill -KILL 0) & read _; kill -KILL 0'
SMALL = {
    "jobmanager.memory.process.size": "640m",
    "taskmanager.memory.process.size": "640m",
    "jobmanager.memory.jvm-overhead.min": "64m",
    "taskmanager.memory.jvm-overhead.min": "64m",
    "jobmanager.memory.jvm-metaspace.size": "160m",
    "taskmanager.memory.jvm-metaspace.size": "128m",
    "taskmanager.memory.framework.heap.size": "96m",
    "taskmanager.memory.framework.off-heap.size": "96m",
    "taskmanager.memory.managed.size": "48m",
    "taskmanager.memory.network.min": "32m",
    "taskmanager.memory.network.max": "32m",
    "taskmanager.numberOfTaskSlots": 1,
}


class Node:
    """A Flink process and what it starts, Python workers included: a process group of its own.

    `folder`: its home, its logs, and what it keeps for a time.
    """

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self.folder = folder
        self.pid = process.pid
        self._process = process

    @property
    def name(self) -> str:
        return self.folder.name

    def kill(self) -> None:
        """SIGKILL to all of it at once, as when a machine loses its power."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.communicate()

    def alive(self) -> bool:
        return self._process.poll() is None

    def log(self) -> str:
        """The end of what it printed."""
        return f"{self.name}: {(self.folder / 'out').read_text(errors='replace')[-3000:]}"


class FlinkCluster:
    """A job manager and task managers of one slot each, which end with this process, however that ends.

    `python`: of an environment with apache-flink; `folder`: an empty one; `settings`: Flink's, over what it comes with.
    """

    def __init__(self, python: Path, folder: Path, settings: Mapping[str, Any] = SMALL) -> None:
        self._package = _package(python)
        self._home = folder / "flink"
        self._configuration = folder / "conf"
        self._folder = folder
        self._port = free_port()
        self._settings = {**settings, **_addresses(self._port)}
        self.address = f"127.0.0.1:{self._port}"
        self.job_manager: Node | None = None
        self.task_managers: list[Node] = []

    @property
    def nodes(self) -> list[Node]:
        return [node for node in [self.job_manager, *self.task_managers] if node is not None]

    def start(self, task_managers: int) -> None:
        """Returns when all task managers have registered."""
        # The package is not written to; pip leaves its scripts without the right to be run.
        shutil.copytree(self._package / "bin", self._home / "bin")
        for script in (self._home / "bin").iterdir():
            script.chmod(0o755)
        self._write_configuration()
        self.job_manager = self._start_node("job-manager", "jobmanager.sh")
        for _ in range(task_managers):
            self.start_task_manager()
        self.wait_for_task_managers(task_managers)

    def start_task_manager(self) -> Node:
        """Returns before it has registered; its name is that of its log and of its id in Flink."""
        name = f"task-manager-{len(self.task_managers) + 1}"
        node = self._start_node(name, "taskmanager.sh", f"taskmanager.resource-id={name}")
        self.task_managers.append(node)
        return node

    def wait_for_task_managers(self, count: int) -> None:
        wait_for(lambda: self._registered() == count, START_SECONDS)

    def get(self, path: str) -> Any:
        """What Flink's REST API answers, for instance to /jobs/overview."""
        answer = requests.get(f"http://{self.address}{path}", timeout=60)
        answer.raise_for_status()
        return answer.json()

    def busy(self) -> list[Node]:
        """The task managers that hold a task now."""
        free = {each["id"]: each["freeSlots"] for each in self.get("/taskmanagers")["taskmanagers"]}
        return [node for node in self.task_managers if free.get(node.name) == 0]

    def stop(self) -> None:
        for node in reversed(self.nodes):
            if node.alive():
                node.kill()

    def _registered(self) -> int:
        try:
            return self.get("/overview")["taskmanagers"]
        except requests.RequestException:
            for node in self.nodes:
                assert node.alive(), node.log()
            return -1

    def _write_configuration(self) -> None:
        shutil.copytree(self._package / "conf", self._configuration)
        file = self._configuration / "config.yaml"
        file.write_text(yaml.safe_dump({**_flat(yaml.safe_load(file.read_text())), **self._settings}))

    def _start_node(self, name: str, script: str, *options: str) -> Node:
        folder = self._folder / name
        (folder / "temporary").mkdir(parents=True)
        dynamic = [part for each in (*options, f"io.tmp.dirs={folder / 'temporary'}") for part in ("-D", each)]
        with (folder / "out").open("wb") as output:
            process = subprocess.Popen(
                ["sh", "-c", GUARD, "guard", str(self._home / "bin" / script), "start-foreground", *dynamic],
                cwd=folder,
                env={**os.environ, **self._environment(folder)},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return Node(folder, process)

    def _environment(self, folder: Path) -> dict[str, str]:
        own = {"HOME": folder, "FLINK_CONF_DIR": self._configuration, "FLINK_LOG_DIR": folder, "FLINK_PID_DIR": folder}
        package = {f"FLINK_{name.upper()}_DIR": self._package / name for name in ("lib", "opt", "plugins")}
        # The scripts start two more Java processes to read the configuration.
        return {"JDK_JAVA_OPTIONS": JAVA, **{name: str(path) for name, path in {**own, **package}.items()}}


def _package(python: Path) -> Path:
    finding = "import importlib.util; print(importlib.util.find_spec('pyflink').submodule_search_locations[0])"
    return Path(subprocess.check_output([str(python), "-c", finding], text=True).strip())


def _addresses(port: int) -> dict[str, Any]:
    hosts = ["jobmanager.bind-host", "jobmanager.rpc.address", "rest.address", "rest.bind-address"]
    hosts += ["taskmanager.bind-host", "taskmanager.host"]
    return {**dict.fromkeys(hosts, "127.0.0.1"), "jobmanager.rpc.port": free_port(), "rest.port": port}


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
