"""Where an API is deployed, and the commands on it there: on this machine, or on a Ray cluster."""

from collections.abc import Callable, Iterator
from typing import Any

from visionserve.cortex.overview import Row
from visionserve.cortex.ray_serve.records import RayStore
from visionserve.cortex.spec.api import ApiSpec
from visionserve.cortex.store import Store
from visionserve.errors import UsageError


def environment_of(name: str, wanted: str | None) -> str:
    """`wanted`: --env. Raises UsageError for a name that is in both environments where --env does not choose."""
    if wanted is not None:
        return wanted
    on_ray = name in RayStore().names()
    if on_ray and name in Store().names():
        raise UsageError(f"{name} is deployed on this machine and on Ray: add --env local or --env ray.")
    return "ray" if on_ray else "local"


def deployer(
    environment: str, say: Callable[[str], None], host: str | None, **options: Any
) -> Callable[[ApiSpec], Any]:
    """What deploys an API to an environment and gives its Outcome or RayOutcome.

    `say`: is told what a deploy waits for; `host`: None for the environment's own; `options`: the other fields of
    DeployOptions, which are those of RayOptions.
    """
    if environment == "ray":
        from visionserve.cortex.ray_serve.deploy import deploy as deploy_on_ray
        from visionserve.cortex.ray_serve.version import RayOptions

        there = RayOptions(host=host, **options)
        return lambda spec: deploy_on_ray(spec, there, RayStore(), say)
    from visionserve.cortex.deploy import DeployOptions
    from visionserve.cortex.deploy import deploy as deploy_here

    here = DeployOptions(host=host or DeployOptions.host, **options)
    return lambda spec: deploy_here(spec, here, Store())


def overview(name: str | None, wanted: str | None) -> list[Row]:
    """All APIs, or those of the name, of both environments or the one wanted. Raises DeploymentError for an unknown
    name; an API that does not answer has a row that says so."""
    from visionserve.cortex.overview import overview as local_overview

    store = RayStore()
    names = [known for known in store.names() if name in (None, known)] if wanted != "local" else []
    if name is not None and wanted == "ray" and not names:
        store.get(name)
    rows = []
    if wanted != "ray" and (name is None or name in Store().names() or not names):
        rows = local_overview(name)
    if names:
        from visionserve.cortex.ray_serve.overview import overview as ray_overview

        rows += ray_overview(store, names)
    return rows


def log_lines(name: str, wanted: str | None, follow: bool) -> Iterator[str]:
    """Raises DeploymentError for an unknown API."""
    if environment_of(name, wanted) == "ray":
        from visionserve.cortex.ray_serve.logs import lines as ray_lines

        return ray_lines(name, RayStore(), follow)
    from visionserve.cortex.log_file import lines

    store = Store()
    path = store.folder(name) / "api.log"
    if not path.exists():
        store.get(name)
    return lines(path, follow)


def delete(name: str, wanted: str | None) -> None:
    """Raises DeploymentError for an unknown API."""
    if environment_of(name, wanted) == "ray":
        from visionserve.cortex.ray_serve.delete import delete as delete_on_ray

        delete_on_ray(name, RayStore())
    else:
        from visionserve.cortex.delete import delete as delete_here

        delete_here(name, Store())


def needs_key(name: str, wanted: str | None) -> bool:
    """Whether requests to the API need a key. Raises DeploymentError for an unknown API."""
    if environment_of(name, wanted) == "ray":
        return bool(RayStore().get(name).settings.api_keys)
    return Store().get(name).has_keys


def endpoint_of(name: str, wanted: str | None) -> str:
    """Raises DeploymentError for an unknown API."""
    store = RayStore() if environment_of(name, wanted) == "ray" else Store()
    return store.get(name).endpoint
