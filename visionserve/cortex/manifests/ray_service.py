"""A KubeRay RayService that runs the Serve application of `cortex deploy --env ray` (KubeRay, ray.io/v1)."""

import math
from pathlib import Path
from typing import Any

import yaml

from visionserve.cortex.manifests.models import locations_on_cluster, with_locations
from visionserve.cortex.manifests.options import ExportOptions
from visionserve.cortex.manifests.pod import (
    MODELS_MOUNT,
    PROJECT_MOUNT,
    SECURITY,
    claims_models,
    environment,
    metadata,
    spec_path,
)
from visionserve.cortex.manifests.project import PROJECT, Project
from visionserve.cortex.manifests.quantity import cpu_quantity, memory_quantity
from visionserve.cortex.ray_serve.mapping import resources
from visionserve.cortex.ray_serve.support import ray_notes
from visionserve.cortex.spec.api import ApiSpec

APPLICATION = "visionserve.cortex.ray_serve.application:build"
DEPLOYMENT = "replica"
RAY_VERSION = "2.60.0"
PORT = 8000
# What a node's own processes and its object store take beside the replica.
NODE_MEMORY = 10**9
HEAD_RESOURCES = {"cpu": "1", "memory": "4Gi"}
_CLUSTERS = "KubeRay starts a second cluster, moves the requests to it when it is ready, and then stops the first"
# Beside what has none wherever Ray runs.
WITHOUT_COUNTERPART = {
    "networking.local_port": f"Serve listens on port {PORT} in it",
    "update_strategy.max_surge": _CLUSTERS,
    "update_strategy.max_unavailable": _CLUSTERS,
}


def ray_service(spec: ApiSpec, options: ExportOptions, project: Project) -> dict[str, Any]:
    autoscaling = spec.autoscaling
    cluster = {
        "rayVersion": RAY_VERSION,
        "enableInTreeAutoscaling": True,
        "headGroupSpec": {
            # Without CPUs the head gets no replica.
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
            # KubeRay gives it an account of its own, with which Ray's autoscaler may add pods.
            "template": _template("ray-head", spec, options, project, HEAD_RESOURCES, account=None),
        },
        "workerGroupSpecs": [
            {
                "groupName": "replicas",
                "minReplicas": autoscaling.min_replicas,
                "replicas": autoscaling.init_replicas,
                "maxReplicas": autoscaling.max_replicas,
                "rayStartParams": {},
                "template": _template(
                    "ray-worker", spec, options, project, _worker_resources(spec), options.service_account
                ),
            }
        ],
    }
    config = yaml.safe_dump(serve_config(spec, options), sort_keys=False, allow_unicode=True)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": metadata(spec, options),
        "spec": {"serveConfigV2": config, "rayClusterConfig": cluster},
    }


def ray_service_notes(spec: ApiSpec) -> list[str]:
    """One sentence for each field the user wrote that changes nothing in a RayService, or changes less than it says."""
    return ray_notes(spec) + [
        f"{field} has no effect on a RayService: {reason}."
        for field, reason in WITHOUT_COUNTERPART.items()
        if field in spec.explicit
    ]


def serve_config(spec: ApiSpec, options: ExportOptions) -> dict[str, Any]:
    """ray.serve.schema.ServeDeploySchema as data."""
    placed = with_locations(spec, locations_on_cluster(spec, options))
    placed = placed.model_copy(update={"project": Path(PROJECT), "file": Path(spec_path(spec))})
    application = {
        "name": spec.name,
        "route_prefix": spec.networking.endpoint,
        "import_path": APPLICATION,
        "runtime_env": {"working_dir": f"local://{PROJECT}"},
        "args": {"spec": placed.model_dump(mode="json", exclude_unset=True)},
        # A worker is as large as one replica, in what Ray counts and in what it does not.
        "deployments": [{"name": DEPLOYMENT, "max_replicas_per_node": 1}],
    }
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": PORT},
        "applications": [application],
    }


def _template(
    name: str,
    spec: ApiSpec,
    options: ExportOptions,
    project: Project,
    amounts: dict[str, str],
    account: str | None,
) -> dict[str, Any]:
    container = {
        "name": name,
        "image": options.image,
        **environment(spec, options),
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": SECURITY,
        "volumeMounts": [PROJECT_MOUNT],
    }
    volumes = [project.volume]
    if claims_models(spec, options):
        container["volumeMounts"] = [PROJECT_MOUNT, MODELS_MOUNT]
        claim = {"claimName": options.models_claim, "readOnly": True}
        volumes = [project.volume, {"name": "models", "persistentVolumeClaim": claim}]
    pod: dict[str, Any] = {"containers": [container], "volumes": volumes}
    if account:
        pod["serviceAccountName"] = account
    return {"spec": pod}


def _worker_resources(spec: ApiSpec) -> dict[str, str]:
    """KubeRay tells Ray of them: CPUs in whole cores, GPUs, memory, and neuroncores as neuron_cores."""
    replica = resources(spec)
    amounts = {"cpu": cpu_quantity(max(1, math.ceil(replica.cpus)))}
    if replica.memory:
        amounts["memory"] = memory_quantity(replica.memory + NODE_MEMORY)
    if replica.gpus:
        amounts["nvidia.com/gpu"] = str(replica.gpus)
    if replica.neuron_cores:
        amounts["aws.amazon.com/neuroncore"] = str(replica.neuron_cores)
    return amounts
