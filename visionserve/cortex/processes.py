"""The processes of this user's APIs, found by what their environment says: no file on disk is needed for it."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

# Every process that a supervisor starts inherits them, as do those that a predictor starts.
STATE = "VISIONSERVE_STATE"
RUN = "VISIONSERVE_RUN"
SUPERVISOR = "visionserve.cortex.supervisor"
KILL_SECONDS = 10.0


@dataclass
class RunProcesses:
    """The living processes of one run of an API. `supervisor`: None where it is gone and has left the others behind."""

    state: Path
    folder: Path
    supervisor: psutil.Process | None = None
    others: list[psutil.Process] = field(default_factory=list)


def marks(state: Path, folder: Path) -> dict[str, str]:
    """The environment of a supervisor. `state`: the API's folder; `folder`: the run's, which no other run ever has."""
    return {STATE: str(state), RUN: str(folder)}


def living_runs(root: Path) -> list[RunProcesses]:
    """The runs, of APIs with their folders in `root`, that have any process left; a command's own are no part of it."""
    runs: dict[str, RunProcesses] = {}
    commands = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    for pid in psutil.pids():
        if pid in commands:
            continue
        found = _marked(pid)
        if found is None or Path(found[1]).parent != root:
            continue
        process, state, folder = found
        run = runs.setdefault(folder, RunProcesses(Path(state), Path(folder)))
        if _is_supervisor(process):
            run.supervisor = process
        else:
            run.others.append(process)
    return list(runs.values())


def supervises(pid: int, folder: Path) -> bool:
    """Whether process `pid` is the supervisor of the run in `folder`, and alive.

    A number alone may be another process's by now, and so may a number and a start time: on Linux psutil derives that
    from the clock, which can be set.
    """
    found = _marked(pid)
    return found is not None and found[2] == str(folder) and _is_supervisor(found[0])


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL, which also ends a stopped process; returns when they are gone."""
    doomed = list(processes)
    for process in doomed:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(doomed, KILL_SECONDS)


def _marked(pid: int) -> tuple[psutil.Process, str, str] | None:
    """The process and its marks; None for another's, a dead one's, and one without."""
    try:
        process = psutil.Process(pid)
        environment = process.environ()
    except (psutil.Error, OSError):
        return None
    # In a container without an init process the dead stay listed, without an environment.
    state, folder = environment.get(STATE), environment.get(RUN)
    return (process, state, folder) if state and folder else None


def _is_supervisor(process: psutil.Process) -> bool:
    try:
        return SUPERVISOR in process.cmdline()
    except (psutil.Error, OSError):
        return False
