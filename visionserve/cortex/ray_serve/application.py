"""The Serve application of an API: what `cortex deploy --env ray` runs, and an import path for Serve's config files."""

from typing import Any

from visionserve.cortex.ray_serve.mapping import deployment_options, resources
from visionserve.cortex.ray_serve.replica import Replica
from visionserve.cortex.ray_serve.settings import ReplicaSettings

DEPLOYMENT = "replica"


def application(settings: ReplicaSettings, actor_options: dict[str, Any], options: dict[str, Any]) -> Any:
    """A ray.serve.Application of one deployment. `options`: of serve.deployment."""
    from ray import serve

    deployment = serve.deployment(serve.ingress()(Replica), name=DEPLOYMENT, ray_actor_options=actor_options, **options)
    return deployment.bind(settings.as_argument())


def build(arguments: dict[str, Any]) -> Any:
    """For `import_path` in a Serve config: arguments are ReplicaSettings as data, options of the deployment the spec's.

    The project is the working folder, and its models are where the spec says on every node.
    """
    settings = ReplicaSettings.model_validate(arguments)
    wanted = resources(settings.spec, settings.on_cpu)
    settings = settings.model_copy(update={"threads": wanted.threads})
    return application(settings, wanted.actor_options(), deployment_options(settings.spec))
