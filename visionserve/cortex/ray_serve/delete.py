import click

from visionserve.cortex.ray_serve.cluster import connected, silence
from visionserve.cortex.ray_serve.packages import release
from visionserve.cortex.ray_serve.records import RayStore
from visionserve.cortex.ray_serve.rollout import remove_application
from visionserve.errors import DeploymentError


def delete(name: str, store: RayStore) -> None:
    """Stops an API on its cluster, what is in flight being answered first, and forgets it.

    One that another user or machine has deployed is stopped, too, where this one's cluster runs it. One whose cluster
    does not answer is forgotten, and a note on stderr says so.
    Raises DeploymentError for an unknown one.
    """
    with store.lock(name):
        try:
            record = store.find(name)
        except DeploymentError:
            # It cannot be read: the API is looked for where it would be deployed now.
            record = None
        if record and (why := silence(record.address)):
            store.forget(name)
            click.echo(
                f"note: No Ray cluster answers at {record.address} ({why}), so {name} is only forgotten: should that "
                f"cluster still run, RAY_ADDRESS={record.address} cortex delete {name} --env ray stops it there.",
                err=True,
            )
            return
        with connected(record.address if record else None) as cluster:
            found = cluster.application(name)
            if not found and name not in store.names():
                store.get(name)
            if found:
                remove_application(name)
            release(name)
        store.forget(name)
