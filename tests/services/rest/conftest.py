from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.rest.rest_services import RestService, rest_service


@pytest.fixture(scope="session")
def home(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real model where the command looks for it."""
    folder = tmp_path_factory.mktemp("rest")
    (folder / "models").mkdir()
    (folder / "models" / "resnet50").symlink_to(model)
    return folder


@pytest.fixture(scope="session")
def service(home: Path) -> Iterator[RestService]:
    """The service as it is without any option, for the tests that only ask it."""
    with rest_service(home) as service:
        yield service
