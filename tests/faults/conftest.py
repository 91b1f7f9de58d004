from collections.abc import Iterator

import pytest

from tests.conftest import DeployedApi, Machine, free_port
from tests.projects import ECHO, write_project


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedApi]:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    yield machine.deploy(write_project(tmp_path_factory.mktemp("project"), ECHO), "--port", free_port())
    machine.clean()
