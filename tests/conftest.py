import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.ceph import Ceph, started_ceph
from tests.setup_lock import setup_lock
from visionserve.cortex import log_file
from visionserve.cortex.overview import overview
from visionserve.cortex.store import Store

REPOSITORY = Path(__file__).resolve().parent.parent
MODEL = REPOSITORY / "models" / "resnet50"
API = "image-classifier-resnet50"
# Below those that Linux gives to connections, above those that Ray gives to its workers.
TEST_PORTS = range(20_000, 32_000)
# Where pytest-xdist says which of how many processes this is, and what holds without it.
XDIST_PROCESS = (("PYTEST_XDIST_WORKER", 0), ("PYTEST_XDIST_WORKER_COUNT", 1))
# Real weights are exported and read, TensorFlow is loaded, Ceph is installed where it is missing.
SLOW_FIXTURES = {"ceph", "detector", "model", "small_build", "stream_environment", "weights"}


def pytest_configure() -> None:
    """A shell starts a job in the background with SIGINT ignored, and what it starts inherits that; tests send it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"cwd": REPOSITORY, "timeout": 600, **options}
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


class Machine:
    """The `cortex` command with a home of its own; what it deploys ends with the test run, however that ends."""

    def __init__(self, home: Path) -> None:
        self.state = home / "state"
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "XDG_STATE_HOME": str(self.state),
            "VISIONSERVE_EXIT_WITH_PID": str(os.getpid()),
        }

    @property
    def records(self) -> Path | None:
        """Where all of its APIs are on record, for a look without a process; None where only the command can tell."""
        folder = Path(self.environment["XDG_STATE_HOME"], "visionserve")
        return None if (folder / "ray").exists() else folder / "apis"

    def cortex(self, *arguments: object, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "visionserve.cortex.cli", *map(str, arguments)]
        return run(command, cwd=cwd, env=self.environment)

    def deploy(self, *arguments: object, cwd: Path = REPOSITORY) -> "DeployedApi":
        """Deploys the first API of a spec on a port that the machine chooses."""
        done = self.cortex("deploy", *arguments, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        said = re.search(
            r"^(?:created |updated )?(\S+) (?:is up to date|with|:)", done.stdout.replace(":", " :"), re.MULTILINE
        )
        assert said, done.stdout
        return DeployedApi(self, said[1])

    def get(self) -> list[dict[str, Any]]:
        """The rows of `cortex get -o json`."""
        if self.records is not None:
            return [row.model_dump(mode="json") for row in overview(store=Store(self.records))]
        done = self.cortex("get", "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def clean(self) -> None:
        if self.state.exists():
            for row in self.get():
                self.cortex("delete", row["name"])


class DeployedApi:
    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.name = name

    def row(self) -> dict[str, Any]:
        return next(row for row in self.machine.get() if row["name"] == self.name)

    @property
    def endpoint(self) -> str:
        return self.row()["endpoint"]

    def log(self) -> str:
        """As `cortex logs` prints it."""
        if self.machine.records is not None:
            return "".join(log_file.lines(self.machine.records / self.name / "api.log", follow=False))
        return self.machine.cortex("logs", self.name).stdout


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "home")
    yield machine
    machine.clean()


@pytest.fixture(scope="session")
def model() -> Path:
    """The CPU build of the real weights; made on the first run, kept for later ones."""
    with setup_lock():
        done = run(
            [sys.executable, "-m", "visionserve.cli", "export", "cpu", "--output", str(MODEL / "1")], timeout=900
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (MODEL / "1" / "saved_model.pb").is_file()
    return MODEL


@pytest.fixture(scope="session")
def detector() -> Path:
    """The build of the real detector; made on the first run, kept for later ones."""
    folder = REPOSITORY / "models" / "detector"
    command = [sys.executable, "-m", "visionserve.cli", "export", "detector", "--output", str(folder / "1")]
    with setup_lock():
        done = run(command, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """A real S3 server."""
    yield from started_ceph()


@pytest.fixture(scope="session")
def classifier(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedApi]:
    """The project's own CPU spec, deployed once for the tests that only ask it."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    yield machine.deploy("cortex_cpu.yaml", "--port", free_port(), "--engine", "openvino")
    machine.clean()


def _own_ports() -> Iterator[int]:
    """Those of this process of the test run, each in its turn, from any one on."""
    number, count = (int(os.environ.get(name, "").removeprefix("gw") or least) for name, least in XDIST_PROCESS)
    own = range(TEST_PORTS.start + number, TEST_PORTS.stop, count)
    first = random.randrange(len(own))
    while True:
        yield from own[first:]
        yield from own[:first]


_OWN_PORTS = _own_ports()


def free_port() -> int:
    """Whoever asks for it binds it seconds later: until then no connection and no other test process may get it."""
    while True:
        port = next(_OWN_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port


@pytest.fixture
def unused_port() -> Iterator[Callable[[], int]]:
    """A port of 127.0.0.1 on which nothing listens, nor can before the test is over."""
    with ExitStack() as held:

        def find() -> int:
            holder = held.enter_context(socket.socket())
            holder.bind(("127.0.0.1", 0))
            return holder.getsockname()[1]

        yield find


def post(endpoint: str, **options: Any) -> requests.Response:
    return requests.post(endpoint, timeout=60, **options)


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come true in {seconds} s"
        time.sleep(0.1)
