from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, run
from tests.debian import why_not_installed
from tests.photos import encoded, photographs
from tests.setup_lock import setup_lock

JAVA = "openjdk-17-jre-headless"
SETUP_SECONDS = 900
LABELS = {"chelsea": "Egyptian_cat", "coffee": "espresso", "camera": "tripod"}


@pytest.fixture(scope="session")
def stream_environment() -> Path:
    """The Python of .venv-stream; made on the first run, kept for later ones. Skips where Java is missing."""
    if reason := why_not_installed([JAVA], ["java"]):
        pytest.skip(f"no Java for Flink: {reason}")
    with setup_lock():
        done = run(["scripts/setup-stream"], timeout=SETUP_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return REPOSITORY / ".venv-stream" / "bin" / "python"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs of LABELS as JPEGs, one of them in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for name in LABELS:
        path = folder / "below" if name == "camera" else folder
        (path / f"{name}.jpg").write_bytes(encoded(photographs()[name], ".jpg"))
    return folder
