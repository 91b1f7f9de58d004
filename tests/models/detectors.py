"""The command that exports a detector."""

import os
import subprocess
import sys

from click.testing import CliRunner

from tests.conftest import REPOSITORY
from visionserve.cli import main


def visionserve(*arguments, **environment):
    """The command in a process of its own, at the repository's root."""
    return subprocess.run(
        [sys.executable, "-m", "visionserve.cli", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def export(*arguments):
    """The command in this process, where TensorFlow is loaded but once."""
    return CliRunner().invoke(main, ["export", "detector", *map(str, arguments)])
