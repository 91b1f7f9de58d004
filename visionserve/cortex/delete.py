import time

import psutil

from visionserve.cortex import control
from visionserve.cortex.host import FAREWELL, GRACE
from visionserve.cortex.store import Deployment, Store
from visionserve.errors import DeploymentError


def delete(name: str, store: Store) -> None:
    """Stops an API and forgets it. Raises DeploymentError, with the names there are, for an unknown one."""
    if name not in store.names():
        store.get(name)
    with store.lock(name):
        try:
            deployment = store.get(name)
        except DeploymentError:
            # Its record cannot be read, so nothing more is known of it.
            store.forget(name)
            return
        if deployment.is_running():
            try:
                control.ask(deployment.control, "stop")
                _wait_until_ended(deployment, 2 * GRACE + FAREWELL + 5)
            except DeploymentError:
                psutil.Process(deployment.pid).kill()
                _wait_until_ended(deployment, 10)
        store.clear_run(deployment)
        store.forget(name)


def _wait_until_ended(deployment: Deployment, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while deployment.is_running():
        if time.monotonic() > deadline:
            raise DeploymentError(f"The supervisor of {deployment.name} (process {deployment.pid}) does not end.")
        time.sleep(0.05)
