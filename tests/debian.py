"""Debian's packages that tests need: installed where that is allowed, once for all test processes."""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.setup_lock import setup_lock

INSTALL_SECONDS = 300


def why_not_installed(packages: Sequence[str], needed: Sequence[str]) -> str | None:
    """None where all of `needed` are there, at last. `needed`: programs by name, other files by absolute path."""
    with setup_lock():
        if not _missing(needed):
            return None
        command = f"apt-get install --no-install-recommends {' '.join(packages)}"
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            return f"{', '.join(_missing(needed))} not found; run as root {command}"
        # The list of packages of a fresh machine may be missing or old.
        deadline = time.monotonic() + INSTALL_SECONDS
        for action in ("install", "update", "install"):
            failure = _apt_get(action, packages, deadline)
            if not _missing(needed):
                return None
        return f"{command} failed: {failure}"


def _missing(needed: Sequence[str]) -> list[str]:
    return [each for each in needed if not (Path(each).exists() if each.startswith("/") else shutil.which(each))]


def _apt_get(action: str, packages: Sequence[str], deadline: float) -> str:
    """What it said last on stderr."""
    arguments = ("-y", "--no-install-recommends", *packages) if action == "install" else ()
    options = ("-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::http::Timeout=30")
    try:
        done = subprocess.run(
            ["apt-get", *options, action, *arguments],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=max(1, deadline - time.monotonic()),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it took more than {INSTALL_SECONDS} s"
    return (done.stderr.strip().splitlines() or ["it installed something else"])[-1]
