from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from visionserve.cortex.ray_serve.capacity import fitted
from visionserve.cortex.ray_serve.cluster import Cluster, connected
from visionserve.cortex.ray_serve.endpoint import check_prefix, endpoint_of, start_serve, wait_until_it_answers
from visionserve.cortex.ray_serve.mapping import Resources, resources
from visionserve.cortex.ray_serve.packages import keep, release
from visionserve.cortex.ray_serve.records import RayDeployment, RayStore
from visionserve.cortex.ray_serve.rollout import Rollout, remove_application
from visionserve.cortex.ray_serve.support import ray_notes
from visionserve.cortex.ray_serve.version import RayOptions, Version, version_of
from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import DeploymentError

# Seconds for the proxies to hear of a new route.
ROUTE_TIMEOUT = 15.0
DESCRIBE_TIMEOUT = 30.0


@dataclass(frozen=True)
class RayOutcome:
    """`action`: created, updated or unchanged."""

    deployment: RayDeployment
    action: str
    notes: list[str] = field(default_factory=list)


def deploy(spec: ApiSpec, options: RayOptions, store: RayStore, say: Callable[[str], None]) -> RayOutcome:
    """Runs an API on a Ray cluster and returns when it is live; when an update fails, the running version goes on.

    `say`: is told what it waits for, when that takes long.
    Raises DeploymentError, ModelError, UsageError or MissingError with the reason.
    """
    with store.lock(spec.name), connected() as cluster, version_of(spec, options) as read:
        reserved, cut = fitted(spec, resources(spec, options.without_devices), cluster.nodes())
        notes = [*ray_notes(spec), *cut, *start_serve(cluster, spec, options.host, options.port)]
        version = replace(read, settings=read.settings.model_copy(update={"threads": reserved.threads}))
        previous, found = store.find(spec.name), cluster.application(spec.name)
        if previous is not None and (previous.address != cluster.address or not found):
            previous = None
        running = found.get("status") == "RUNNING"
        if previous is not None and running and previous.digest == version.digest(reserved) and not options.force:
            return RayOutcome(previous, "unchanged", notes)
        check_prefix(cluster, spec)
        for package, uri in zip(version.packages, version.uris, strict=True):
            package.upload(uri)
        keep(version.uris, spec.name)
        notes += _roll(Rollout(cluster, version.settings, version.uris, reserved, say), version, previous, bool(found))
        deployment = _deployment(cluster, version, reserved)
        store.write(deployment)
        if previous is not None:
            release(spec.name, but=version.uris)
        if not wait_until_it_answers(deployment.endpoint, ROUTE_TIMEOUT):
            notes.append(
                f"{deployment.endpoint} does not answer here: Serve's proxies may be out of this machine's reach."
            )
        return RayOutcome(deployment, "created" if not found else "updated", notes)


def _roll(rollout: Rollout, version: Version, previous: RayDeployment | None, is_there: bool) -> list[str]:
    """When it fails, and also on Ctrl-C, the cluster gets back what it ran before."""
    spec = version.settings.spec
    try:
        return rollout.run()
    except BaseException as error:
        if not is_there:
            remove_application(spec.name)
            outcome = "was not deployed"
        elif previous is not None:
            outcome = "was not updated, and goes on as it was"
            rollout.restore(previous.settings, previous.uris, previous.reserved)
        else:
            outcome = "was not updated"
        if previous is not None or not is_there:
            release(spec.name, but=previous.uris if previous else ())
        if isinstance(error, DeploymentError):
            raise DeploymentError(f"{spec.name} {outcome}: {error}.") from error
        raise


def _deployment(cluster: Cluster, version: Version, reserved: Resources) -> RayDeployment:
    from ray import serve
    from ray.exceptions import RayError

    spec = version.settings.spec
    describe = serve.get_app_handle(spec.name).describe
    try:
        engine = describe.remote().result(timeout_s=DESCRIBE_TIMEOUT)["engine"]
    except (RayError, TimeoutError):
        # The replica that was asked is gone already; what is known of the API is kept all the same.
        engine = None
    finally:
        # Else it goes on counting requests for a cluster that this process has left.
        describe.shutdown()
    return RayDeployment(
        name=spec.name,
        address=cluster.address,
        endpoint=endpoint_of(cluster, spec.networking.endpoint),
        spec_file=spec.file,
        engine=engine,
        digest=version.digest(reserved),
        uris=version.uris,
        reserved=reserved,
        settings=version.settings,
        updated=datetime.now(timezone.utc),
    )
