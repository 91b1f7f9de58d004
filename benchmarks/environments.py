"""A virtual environment per peer, under build/, made the first time it is asked for."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from deployment import REPOSITORY
from load import last_line


class EnvironmentRefused(Exception):
    """An environment that cannot be made here; the sentence says why."""


def environment(name: str, requirements: Path, pythons: tuple[str, ...] = ()) -> Path:
    """The bin folder of the environment with `requirements`, made by the first of `pythons` that is here.

    Without `pythons` it is this process's Python. Raises EnvironmentRefused.
    """
    folder = REPOSITORY / "build" / "peers" / name
    python = first_python(pythons) if pythons else sys.executable
    state = hashlib.sha256(f"{python}\n{requirements.read_text()}".encode()).hexdigest()
    stamp = folder / "installed"
    if not stamp.exists() or stamp.read_text() != state:
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        step([python, "-m", "venv", str(folder)], f"{python} makes no environment for {name}")
        # A second --quiet: pip warns about each index that lacks a package.
        install = [
            str(folder / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--quiet",
            "-r",
            str(requirements),
        ]
        step(install, f"pip cannot install {requirements.relative_to(REPOSITORY)}")
        stamp.write_text(state)
    return folder / "bin"


def first_python(names: tuple[str, ...]) -> str:
    for name in names:
        found = shutil.which(name)
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            return found
    raise EnvironmentRefused(f"none of {', '.join(names)} is here")


def step(command: list[str], problem: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise EnvironmentRefused(f"{problem}: {last_line(done.stdout)}")
