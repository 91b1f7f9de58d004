"""A KServe InferenceService whose predictor container runs `cortex deploy` (KServe's API reference, v1beta1)."""

import math
from typing import Any

from visionserve.cortex.manifests.options import ExportOptions
from visionserve.cortex.manifests.pod import PROJECT_MOUNT, SECURITY, claims_models, environment, metadata, spec_path
from visionserve.cortex.manifests.project import Project
from visionserve.cortex.manifests.quantity import cpu_quantity, memory_quantity
from visionserve.cortex.settings import AUTOSCALED
from visionserve.cortex.spec.api import ApiSpec, Autoscaling

PORT = 8080
# Limits of Knative Serving: config-defaults' container-concurrency-max-limit, and autoscaling's WindowMax.
MOST_CONCURRENCY = 1000
LONGEST_WINDOW = 3600
# `cortex deploy` itself gives up an API that does not become live within 300 s.
START_SECONDS = 330
_AUTOSCALER = "Knative's autoscaler has this for the whole cluster only, in config-autoscaler"
_REVISIONS = "Knative starts a new revision in full before it moves requests to it"
WITHOUT_COUNTERPART = {
    "predictor.image": "the container is the image of --image",
    "predictor.tensorflow_serving_image": "visionserve's own model server runs in place of the image",
    "predictor.models.cache_size": "all models stay in memory",
    "predictor.models.disk_cache_size": "all models stay on disk",
    "networking.local_port": "KServe's gateway has a port of its own",
    "networking.api_gateway": "KServe's gateway takes the place of AWS's API Gateway",
    "monitoring": "predictions are not tracked; GET /metrics has the counters of requests",
    "autoscaling.upscale_stabilization_period": _AUTOSCALER,
    "autoscaling.max_downscale_factor": _AUTOSCALER,
    "autoscaling.max_upscale_factor": _AUTOSCALER,
    "autoscaling.downscale_tolerance": _AUTOSCALER,
    "autoscaling.upscale_tolerance": _AUTOSCALER,
    "update_strategy.max_surge": _REVISIONS,
    "update_strategy.max_unavailable": _REVISIONS,
}

OF_A_PYTHON_PREDICTOR = dict.fromkeys(
    ("predictor.model_path", "predictor.models"), "a python predictor gets its model through predictor.config"
)


def inference_service(spec: ApiSpec, options: ExportOptions, project: Project) -> dict[str, Any]:
    autoscaling = spec.autoscaling
    target = autoscaling.target_replica_concurrency
    predictor: dict[str, Any] = {
        "minReplicas": autoscaling.min_replicas,
        "maxReplicas": autoscaling.max_replicas,
        "scaleMetric": "concurrency",
        "containerConcurrency": min(autoscaling.max_replica_concurrency, MOST_CONCURRENCY),
    }
    if target.is_integer():
        predictor["scaleTarget"] = int(target)
    if options.service_account:
        predictor["serviceAccountName"] = options.service_account
    predictor["containers"] = [_container(spec, options)]
    predictor["volumes"] = [project.volume, {"name": "tmp", "emptyDir": {}}]
    described = {**metadata(spec, options), "annotations": _annotations(autoscaling)}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": described,
        "spec": {"predictor": predictor},
    }


def kserve_notes(spec: ApiSpec) -> list[str]:
    """One sentence for each field the user wrote that changes nothing on KServe, or changes less than it says."""
    autoscaling = spec.autoscaling
    limits = [
        ("max_replica_concurrency", autoscaling.max_replica_concurrency, MOST_CONCURRENCY, "requests"),
        ("window", autoscaling.window, LONGEST_WINDOW, "s"),
        ("downscale_stabilization_period", autoscaling.downscale_stabilization_period, LONGEST_WINDOW, "s"),
    ]
    notes = [
        f"autoscaling.{field} becomes {most} {unit}, the most that Knative takes."
        for field, value, most, unit in limits
        if value > most and f"autoscaling.{field}" in spec.explicit
    ]
    without = WITHOUT_COUNTERPART | (OF_A_PYTHON_PREDICTOR if spec.predictor.type == "python" else {})
    return notes + [
        f"{field} has no effect on KServe: {reason}." for field, reason in without.items() if field in spec.explicit
    ]


def _annotations(autoscaling: Autoscaling) -> dict[str, str]:
    annotations = {
        # Concurrency can only be scaled by in this mode, and KServe's default is the other one.
        "serving.kserve.io/deploymentMode": "Knative",
        "autoscaling.knative.dev/initial-scale": str(autoscaling.init_replicas),
        "autoscaling.knative.dev/window": _seconds(autoscaling.window),
        "autoscaling.knative.dev/scale-down-delay": _seconds(autoscaling.downscale_stabilization_period),
        # Knative aims at 70 % of the target where Cortex aims at the target.
        "autoscaling.knative.dev/target-utilization-percentage": "100",
    }
    if not autoscaling.target_replica_concurrency.is_integer():
        annotations["autoscaling.knative.dev/target"] = f"{autoscaling.target_replica_concurrency:g}"
    return annotations


def _seconds(duration: float) -> str:
    return f"{min(math.ceil(duration), LONGEST_WINDOW)}s"


def _container(spec: ApiSpec, options: ExportOptions) -> dict[str, Any]:
    variables = environment(spec, options)
    # An API that refused early would hide its load from the autoscaler.
    variables["env"] = [*variables.get("env", []), {"name": AUTOSCALED, "value": "1"}]
    if claims_models(spec, options):
        # KServe mounts it at /mnt/models by itself: a volume of one's own would need a feature flag of Knative's.
        source = {"name": "STORAGE_URI", "value": f"pvc://{options.models_claim}"}
        variables["env"].append(source)
    health = {"path": "/healthz", "port": PORT}
    return {
        "name": "kserve-container",
        "image": options.image,
        "command": ["cortex", "deploy", spec_path(spec), "--foreground", "--host", "0.0.0.0", "--port", str(PORT)],
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        **variables,
        "resources": _resources(spec),
        "readinessProbe": {"httpGet": health, "periodSeconds": 5, "timeoutSeconds": 5},
        "livenessProbe": {
            "httpGet": health,
            "initialDelaySeconds": START_SECONDS,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
        },
        "securityContext": {**SECURITY, "readOnlyRootFilesystem": True},
        # The container's own /tmp, as an empty volume of the pod.
        "volumeMounts": [PROJECT_MOUNT, {"name": "tmp", "mountPath": "/tmp"}],  # nosec B108
    }


def _resources(spec: ApiSpec) -> dict[str, dict[str, str]]:
    """What a replica asks for is also its limit: where one is missing KServe sets 1 core and 2Gi, which may be less."""
    compute = spec.compute
    requests, limits = {}, {}
    if compute.cpu is not None:
        requests["cpu"] = cpu_quantity(compute.cpu)
        limits["cpu"] = cpu_quantity(max(compute.cpu, 1))
    if compute.mem is not None:
        requests["memory"] = limits["memory"] = memory_quantity(compute.mem)
    for name, count in (("nvidia.com/gpu", compute.gpu), ("aws.amazon.com/neuron", compute.inf)):
        if count:
            requests[name] = limits[name] = str(count)
    return {"requests": requests, "limits": limits} if limits else {}
