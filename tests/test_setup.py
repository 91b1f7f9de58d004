"""scripts/setup and scripts/setup-stream where they were stopped before, and where no Python is fit for them."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

ENVIRONMENTS = {"setup": ".venv", "setup-stream": ".venv-stream"}
PYTHONS = ("python3", "python3.10", "python3.11", "python3.12", "python3.13")


@pytest.fixture(params=ENVIRONMENTS)
def script(request) -> str:
    return request.param


@pytest.fixture
def checkout(script: str, tmp_path: Path) -> Path:
    """A folder with the script and what it reads; pip finds no package that it would have to fetch."""
    for folder in ("scripts", "requirements", "programs"):
        (tmp_path / folder).mkdir()
    shutil.copy(REPOSITORY / "scripts" / script, tmp_path / "scripts")
    for file in ("pyproject.toml", "constraints.txt", "requirements/stream.txt"):
        (tmp_path / file).touch()
    program(tmp_path, "java", "exit 0")
    return tmp_path


def program(checkout: Path, name: str, code: str) -> None:
    file = checkout / "programs" / name
    file.write_text(f"#!/bin/sh\n{code}\n")
    file.chmod(0o755)


def surroundings(checkout: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"JAVA_HOME", "PYTHONPATH"}}
    return {**kept, "PATH": f"{checkout / 'programs'}:{os.environ['PATH']}", "PIP_NO_INDEX": "1"}


def set_up(checkout: Path, script: str) -> subprocess.CompletedProcess:
    command = [checkout / "scripts" / script]
    return subprocess.run(command, env=surroundings(checkout), capture_output=True, text=True, check=False, timeout=120)


def without_pip(environment: Path) -> None:
    """As Debian without python3-venv leaves it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)


def with_half_of_pip(environment: Path) -> None:
    """As Ctrl-C leaves it."""
    without_pip(environment)
    [packages] = environment.glob("lib/python3*/site-packages")
    for package in ("pip", "pip/_internal"):
        (packages / package).mkdir()
        (packages / package / "__init__.py").touch()


def without_its_python(environment: Path) -> None:
    """As an upgrade of the system leaves it."""
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(environment / "gone")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "left"), [("setup", without_pip), ("setup", with_half_of_pip), ("setup-stream", without_its_python)]
)
def test_an_environment_that_was_left_half_made_is_made_anew_and_a_whole_one_stays(checkout, script, left):
    if script == "setup-stream" and sys.version_info >= (3, 13):
        pytest.skip("PyFlink does not run on this Python")
    for name in PYTHONS:
        program(checkout, name, f'exec "{sys.executable}" "$@"')
    environment = checkout / ENVIRONMENTS[script]
    left(environment)
    first = set_up(checkout, script)
    assert f"making {environment.name} with Python" in first.stdout + first.stderr
    # There is nothing to install from here.
    assert "setuptools" in first.stderr
    done = subprocess.run([environment / "bin/python", "-m", "pip", "--version"], check=False, capture_output=True)
    assert done.returncode == 0
    (environment / "mine").touch()
    again = set_up(checkout, script)
    assert "making" not in again.stdout + again.stderr
    assert "installing" in again.stdout + again.stderr
    assert (environment / "mine").is_file()


def test_the_second_of_two_at_once_waits(checkout, script):
    """Every Python is unfit: the second one's turn has come when it says so."""
    for name in PYTHONS:
        program(checkout, name, "exit 1")
    command = checkout / "scripts" / script
    with command.open() as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        with subprocess.Popen(
            [command], env=surroundings(checkout), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as second:
            assert second.stdout.readline() == f"waiting for another scripts/{script}\n"
            assert second.poll() is None
            fcntl.flock(first, fcntl.LOCK_UN)
            assert "with its module venv" in second.stdout.read()
    assert second.returncode == 3


def test_a_python_without_venv_is_not_taken(checkout, script):
    for name in PYTHONS:
        program(checkout, name, f'case "$2" in *ensurepip*) exit 1;; esac\nexec "{sys.executable}" "$@"')
    done = set_up(checkout, script)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert "apt-get install python3-venv" in done.stderr
    assert not (checkout / ENVIRONMENTS[script]).exists()
