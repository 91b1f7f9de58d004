import shutil
import subprocess
from pathlib import Path

from tests.conftest import REPOSITORY, run

PARTS = ("deploy", "visionserve", "scripts/bundle", ".dockerignore", "pyproject.toml", "constraints.txt", "README.md")
PARTS += ("requirements/stream.txt",)


def copy_checkout(folder: Path) -> Path:
    """What images are built of as a fresh clone has it: no models, no bundles, nothing else that Git ignores."""
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *PARTS, "LICENSE"])
    assert listed.returncode == 0, listed.stderr
    for name in set(listed.stdout.splitlines()):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


def bundle(checkout: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run(["scripts/bundle", *map(str, arguments)], cwd=checkout)


def stand_in_model(folder: Path) -> Path:
    """Three versions laid out as models are; each holds its own number in place of a graph."""
    for version in ("1", "2", "10"):
        (folder / version).mkdir(parents=True)
        (folder / version / "saved_model.pb").write_text(version)
    return folder
