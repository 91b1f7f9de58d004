from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, DeployedApi, Machine, free_port
from tests.projects import repository_spec


@pytest.fixture(scope="package")
def null_api(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedApi]:
    """The project's own CPU spec with all but the model, for tests of what is counted of it."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    spec = repository_spec(tmp_path_factory.mktemp("project"), REPOSITORY, model)
    yield machine.deploy(spec, "--port", free_port(), "--engine", "null")
    machine.clean()
