from pathlib import Path

import pytest

from tests.deploy.checkout import bundle, copy_checkout, stand_in_model


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone in which scripts/bundle has run for the two functions."""
    folder = copy_checkout(tmp_path_factory.mktemp("checkout"))
    model = stand_in_model(tmp_path_factory.mktemp("model"))
    for function in ("deploy/knative", "deploy/dcf"):
        done = bundle(folder, function, model)
        assert done.returncode == 0, done.stderr
    return folder
