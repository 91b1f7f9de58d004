import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, run
from tests.photos import encoded, photographs

JAVA = "openjdk-17-jre-headless"
SETUP_SECONDS = 900
LABELS = {"chelsea": "Egyptian_cat", "coffee": "espresso", "camera": "tripod"}


@pytest.fixture(scope="session")
def stream_environment() -> Path:
    """The Python of .venv-stream; made on the first run, kept for later ones. Skips where Java is missing."""
    if reason := _why_no_java():
        pytest.skip(f"no Java for Flink: {reason}")
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


def _why_no_java() -> str | None:
    """Installs Debian's package where that is allowed."""
    if shutil.which("java"):
        return None
    command = f"apt-get install --no-install-recommends {JAVA}"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return f"run as root {command}"
    # The list of packages of a fresh machine may be missing or old.
    for action in ((*command.split()[1:], "-y"), ("update",), (*command.split()[1:], "-y")):
        done = subprocess.run(
            ["apt-get", "-o", "DPkg::Lock::Timeout=120", *action],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if shutil.which("java"):
            return None
    return f"{command} failed: {done.stderr.strip()[-200:]}"
