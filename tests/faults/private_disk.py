"""A disk of a few megabytes for the state folder of a deployment, in a mount namespace that ends with the tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, Machine, run

PROGRAMS = ("unshare", "nsenter", "setpriv", "mount", "umount")
NAMESPACE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private")


class PrivateDisk(Machine):
    """A machine whose state folder is a disk of its own, which nobody but its `cortex` commands sees mounted."""

    records = None

    def __init__(self, home: Path, megabytes: int) -> None:
        """Skips where this user may not mount."""
        super().__init__(home)
        if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
            pytest.skip(f"no disk of its own for a deployment: {', '.join(missing)} not found")
        self.state.mkdir(parents=True)
        script = 'mount -t tmpfs -o size="$2"m,mode=700 disk "$1" && echo mounted && exec sleep infinity'
        # The namespace, and the disk with it, goes with its last process; this one ends with the test run.
        self._holder = subprocess.Popen(
            [*NAMESPACE, "sh", "-c", script, "sh", str(self.state), str(megabytes)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "mounted\n":
            pytest.skip(f"no disk of its own for a deployment: {self._holder.communicate()[1].strip()}")
        # As the processes in the namespace see it.
        self.disk = Path(f"/proc/{self._holder.pid}/root{self.state}")

    def cortex(self, *arguments: object, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
        command = ["nsenter", f"--wd={cwd}", *self._inside, sys.executable, "-m", "visionserve.cortex.cli"]
        return run([*command, *map(str, arguments)], env=self.environment)

    def fill(self) -> None:
        """Until not one more byte can be written."""
        with open(self.disk / "filler", "ab", buffering=0) as filler:
            size = 1 << 16
            while size:
                try:
                    size = filler.write(bytes(size))
                except OSError:
                    size //= 2

    def make_room(self) -> None:
        (self.disk / "filler").unlink()

    def make_read_only(self) -> None:
        self._mount("--bind", self.state, self.state)
        self._mount("-o", "remount,bind,ro", self.state)

    def make_writable(self) -> None:
        self._command("umount", self.state)

    def clean(self) -> None:
        super().clean()
        self._holder.kill()
        self._holder.communicate()

    def _mount(self, *arguments: Any) -> None:
        self._command("mount", *arguments)

    def _command(self, *arguments: Any) -> None:
        done = run(["nsenter", *self._inside, *map(str, arguments)], env=dict(os.environ))
        assert done.returncode == 0, done.stderr

    @property
    def _inside(self) -> list[str]:
        return ["--mount", f"--target={self._holder.pid}"]
