import base64
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# Long enough for a machine on which everything else runs too.
LONGEST_S = 180
PROGRESS = re.compile(r"(\d+ s: |no answer yet|warming up: |\d+ samples served, )")


@dataclass
class Run:
    """How one run of the command ended; `figures` is its JSON document, None when it wrote none."""

    code: int
    out: str
    err: str
    figures: dict[str, Any] | None

    def row(self, name: str) -> str:
        """The value that the summary shows after `name: `."""
        return self.rows(name)[0]

    def rows(self, name: str) -> list[str]:
        return [line.split(": ", 1)[1] for line in self.out.splitlines() if line.strip().startswith(f"{name}: ")]

    @property
    def notes(self) -> str:
        """All notes, a line each: a busy machine adds its own, so none is sure to be the first."""
        return "\n".join(self.rows("note"))

    @property
    def complaints(self) -> list[str]:
        """The lines of stderr but for those of progress, which every run has that a busy machine makes ten seconds."""
        return [line for line in self.err.splitlines() if not PROGRESS.match(line)]


class Bench:
    """`throughput_test.py`, run as a user runs it, in a folder and a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if name not in ("IMG_URL", "ENDPOINT")}
        self.environment["HOME"] = str(folder)
        self.json_file = folder / "figures.json"

    def command(self, *arguments: object) -> list[str]:
        script = REPOSITORY / "throughput_test.py"
        return [sys.executable, str(script), "--json", str(self.json_file), *map(str, arguments)]

    def __call__(self, *arguments: object, **environment: str) -> Run:
        process = self.start(*arguments, **environment)
        return self.finish(process)

    def start(self, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        """In a process group of its own, as a shell starts a job."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> Run:
        try:
            out, err = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise
        figures = json.loads(self.json_file.read_bytes()) if self.json_file.exists() else None
        return Run(process.returncode, out, err, figures)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def photo_bytes() -> bytes:
    return base64.b64decode(json.loads((REPOSITORY / "sample.json").read_bytes())["img"])


@pytest.fixture
def photo(tmp_path: Path, photo_bytes: bytes) -> Path:
    path = tmp_path / "chelsea.jpg"
    path.write_bytes(photo_bytes)
    return path
