import psutil

from visionserve.cortex import control
from visionserve.cortex.host import FAREWELL, GRACE
from visionserve.cortex.store import Store
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
            process = psutil.Process(deployment.pid)
            try:
                control.ask(deployment.control, "stop")
                process.wait(timeout=2 * GRACE + FAREWELL + 5)
            except (DeploymentError, psutil.TimeoutExpired):
                process.kill()
                process.wait()
        store.clear_run(deployment)
        store.forget(name)
