import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import Machine, free_port, wait_for
from tests.projects import write_project
from tests.security.talker import SOURCE


class Talker:
    """A running API of tests/security/talker.py."""

    def __init__(self, machine: Machine, spec: Path, *options: object) -> None:
        self.machine = machine
        self.spec = spec
        self.port = free_port()
        self.deploy(*options)
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def deploy(self, *options: object) -> str:
        """What the command says, on both streams."""
        done = self.machine.cortex("deploy", self.spec, "--port", self.port, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def ask(self, do: str = "", text: str = "", path: str = "/", **headers: str) -> requests.Response:
        """A POST. `headers`: with _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.post(f"{self.endpoint}{path}?do={do}", json={"text": text}, headers=named, timeout=60)

    def lines(self, holding: str, count: int = 1) -> list[str]:
        """The lines of the log with a text in them, once there are `count` or more."""
        wait_for(lambda: len(self._lines(holding)) >= count)
        return self._lines(holding)

    def records(self, holding: str, count: int = 1) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines(holding, count)]

    def log(self) -> str:
        return (self.machine.state / "visionserve/apis/small/api.log").read_text()

    def _lines(self, holding: str) -> list[str]:
        return [line for line in self.log().splitlines() if holding in line]


@pytest.fixture(scope="module")
def own_machine(tmp_path_factory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    machine.environment.pop("CORTEX_API_KEY", None)
    yield machine
    machine.clean()


@pytest.fixture(scope="module")
def talker_spec(tmp_path_factory) -> Path:
    return write_project(tmp_path_factory.mktemp("talker"), SOURCE)
