import sys

import pytest

from tests.conftest import run
from tests.cortex.manifests.published import KServeModels

KSERVE = "kserve==0.21.0"


@pytest.fixture(scope="session")
def kserve_models(tmp_path_factory: pytest.TempPathFactory) -> KServeModels:
    folder = tmp_path_factory.mktemp("kserve")
    done = run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), KSERVE])
    if done.returncode:
        pytest.skip(f"{KSERVE} could not be had from the package index: {done.stderr.strip().splitlines()[-1]}")
    [wheel] = folder.glob("*.whl")
    return KServeModels(wheel)
