import time
from contextlib import suppress

import psutil

from visionserve.cortex import control
from visionserve.cortex.host import END_SECONDS
from visionserve.cortex.processes import RunProcesses, kill
from visionserve.cortex.store import Deployment, Store
from visionserve.errors import DeploymentError


def delete(name: str, store: Store) -> None:
    """Stops an API and forgets it. Raises DeploymentError, with the names there are, for an unknown one."""
    if name not in store.names():
        store.get(name)
    with store.lock(name):
        deployment = None
        # A record that cannot be read says nothing more of it.
        with suppress(DeploymentError):
            deployment = store.find(name)
        if deployment is not None and deployment.is_running():
            try:
                control.ask(deployment.control, "stop")
                _wait_until_ended(deployment, END_SECONDS + 5)
            except DeploymentError:
                with suppress(psutil.NoSuchProcess):
                    kill([psutil.Process(deployment.pid)])
        # Those that drain since an update, too: what is forgotten here they would still write to.
        _end(store.supervised(name))
        store.clean_up(name)
        store.forget(name)


def end_strays(name: str, store: Store, known: Deployment | None) -> None:
    """Ends the runs of an API, other than the one that is known, which no record tells of; they drain first."""
    _end(store.strays(name, known))


def _end(runs: list[RunProcesses]) -> None:
    supervisors = [run.supervisor for run in runs if run.supervisor]
    for supervisor in supervisors:
        with suppress(psutil.NoSuchProcess):
            supervisor.terminate()
    _, left = psutil.wait_procs(supervisors, END_SECONDS + 5)
    kill(left)


def _wait_until_ended(deployment: Deployment, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while deployment.is_running():
        if time.monotonic() > deadline:
            raise DeploymentError(f"The supervisor of {deployment.name} (process {deployment.pid}) does not end.")
        time.sleep(0.05)
