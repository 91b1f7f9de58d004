"""Runs of an API as the store finds them, with processes that only look like supervisors."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import wait_for
from visionserve.cortex.control import SOCKET
from visionserve.cortex.delete import delete
from visionserve.cortex.processes import SUPERVISOR, marks
from visionserve.cortex.store import Store

# Answers as one that drains, whatever it is told, and ends by itself a second after it was told to.
DRAINING = """
import asyncio, signal, sys
from pathlib import Path
from visionserve.cortex import control

async def main():
    async def answer(command):
        return {"status": "stopping"}
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await control.listen(Path(sys.argv[2]), answer, lambda: None, print)
    await told.wait()
    await asyncio.sleep(1)

asyncio.run(main())
"""


@pytest.fixture
def state() -> Iterator[Path]:
    # The path of a Unix socket is short.
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "apis").resolve()


@contextmanager
def draining_run(state: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    folder = state / "small" / "run-one"
    folder.mkdir(parents=True)
    command = [sys.executable, "-c", DRAINING, SUPERVISOR, str(folder / SOCKET)]
    with subprocess.Popen(command, env={**os.environ, **marks(folder.parent, folder)}) as process:
        try:
            wait_for((folder / SOCKET).exists)
            yield process, folder
        finally:
            process.kill()


def test_cleaning_up_by_another_path_leaves_a_living_run_its_folder(state):
    link = state.with_name("link")
    link.symlink_to(state)
    store = Store(link)
    with draining_run(state) as (_, folder):
        assert store.names() == ["small"]
        store.clean_up("small")
        assert folder.exists()
    store.clean_up("small")
    assert not folder.exists()


def test_delete_waits_for_a_run_that_drains(state):
    with draining_run(state) as (process, _):
        delete("small", Store(state))
        assert process.poll() == 0
    assert Store(state).names() == []
