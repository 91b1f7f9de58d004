"""Servers that a turn measures: each is started for its turn, asked once whether it answers right, and stopped."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import psutil
import requests
from deployment import REPOSITORY, deployed, free_port
from environments import EnvironmentRefused, environment
from load import LoadError, last_line
from peer_list import Peer, Setting

PEER_FOLDER = REPOSITORY / "benchmarks" / "peers"
CAT = "Egyptian_cat"
START_S = 120
STOP_S = 15


class Contestant(Protocol):
    name: str
    title: str
    settings: tuple[Setting, ...]

    @contextmanager
    def up(self, engine: str, setting: Setting, body: Path) -> Iterator[str]:
        """The address of a live server of `engine` that has answered `body` right; raises LoadError."""
        ...


class Ours:
    name = "visionserve"
    title = "visionserve"
    settings: tuple[Setting, ...] = ({},)

    @contextmanager
    def up(self, engine: str, setting: Setting, body: Path) -> Iterator[str]:
        try:
            with deployed(engine) as deployment:
                url = deployment.row()["endpoint"]
                check_labels(ask(url, body), engine, url)
                yield url
        except subprocess.CalledProcessError as error:
            raise LoadError(f"{' '.join(error.cmd[1:5])} ended with status {error.returncode}") from error


class PeerServer:
    def __init__(self, peer: Peer) -> None:
        self.name, self.title, self.settings = peer.name, peer.title, peer.settings
        self._peer = peer
        self._folder = PEER_FOLDER / peer.name
        self._requirements = self._folder / "requirements.txt"
        self._log = REPOSITORY / "build" / "peers" / f"{peer.name}.log"

    def version(self) -> str:
        lines = self._requirements.read_text().splitlines()
        return next(line.partition("==")[2] for line in lines if line.startswith(f"{self._peer.package}=="))

    @contextmanager
    def up(self, engine: str, setting: Setting, body: Path) -> Iterator[str]:
        try:
            programs = environment(self.name, self._requirements, self._peer.pythons)
        except EnvironmentRefused as error:
            raise LoadError(str(error)) from error
        port = free_port()
        url = f"http://127.0.0.1:{port}{self._peer.path}"
        # Ray's socket paths leave little room: the folder's name is short.
        with tempfile.TemporaryDirectory(prefix="vs", ignore_cleanup_errors=True) as scratch:
            variables = {
                **os.environ,
                **dict.fromkeys(("TMPDIR", "RAY_TMPDIR", "BENTOML_HOME", "PYTRITON_HOME"), scratch),
                **{"BENTOML_DO_NOT_TRACK": "true", "PYTHONPATH": str(PEER_FOLDER), "VS_ENGINE": engine},
                **self._peer.environment,
                **setting,
                "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            }
            command = [part.format(port=port, **setting) for part in self._peer.command]
            command[0] = str(programs / command[0])
            with self._log.open("w") as log:
                # A session of its own: an interrupt reaches it through stop() alone, and stop() finds all of it.
                process = psutil.Popen(
                    command,
                    cwd=self._folder,
                    env=variables,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            try:
                check_labels(self._first_answer(process, url, body), engine, url)
                yield url
            finally:
                stop(process)

    def _first_answer(self, process: psutil.Popen, url: str, body: Path) -> object:
        deadline = time.monotonic() + START_S
        while True:
            try:
                return ask(url, body)
            except LoadError as error:
                log = f"{last_line(self._log.read_text(errors='replace'))} ({self._log.relative_to(REPOSITORY)})"
                if process.poll() is not None:
                    raise LoadError(f"it ended with status {process.returncode} before it served: {log}") from error
                if time.monotonic() > deadline:
                    raise LoadError(f"it served nothing within {START_S} s: {error}; {log}") from error
                time.sleep(0.3)


def stop(process: psutil.Popen) -> None:
    """Ends the server and whatever it started, also what it left behind; what ignores SIGTERM is killed."""
    family = {process, *session(process.pid)}
    if process.is_running():
        family.update(process.children(recursive=True))
        process.terminate()
    _, alive = psutil.wait_procs(family, timeout=STOP_S)
    for member in {*alive, *session(process.pid)}:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(alive, timeout=STOP_S)


def session(leader: int) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == leader:
                members.append(process)
    return members


def ask(url: str, body: Path) -> object:
    try:
        answer = requests.post(
            url, data=body.read_bytes(), headers={"content-type": "application/json"}, timeout=START_S
        )
        answer.raise_for_status()
        return answer.json()
    except requests.RequestException as error:
        raise LoadError(f"{url} does not answer: {error}") from error


def check_labels(answer: object, engine: str, url: str) -> None:
    """Triton's generate extension wraps its outputs in an object; everyone else answers the list itself."""
    labels = answer.get("labels") if isinstance(answer, dict) else answer
    if not (isinstance(labels, list) and len(labels) == 5 and all(isinstance(label, str) for label in labels)):
        raise LoadError(f"{url} answered {str(answer)[:120]} where five labels were due")
    if engine != "null" and labels[0] != CAT:
        raise LoadError(f"{url} takes the cat for {labels[0]}")
