"""The fields of a RayService that this project writes, and what KubeRay takes in them.

KubeRay publishes its CRD in its Helm chart only (ray.io_rayservices.yaml), which is on no package index: this table was
read from that and from docs/reference/api.md of KubeRay 1.4. Pod templates are left to Kubernetes' own schemas.
"""

from collections.abc import Iterator
from typing import Any

POD_TEMPLATE = object()
TEXTS = {str: str}
GROUP = {"rayStartParams": TEXTS, "template": POD_TEMPLATE}
WORKERS = {**GROUP, "groupName": str, "minReplicas": int, "replicas": int, "maxReplicas": int}
CLUSTER = {"rayVersion": str, "enableInTreeAutoscaling": bool, "headGroupSpec": GROUP, "workerGroupSpecs": [WORKERS]}
SPEC = {"serveConfigV2": str, "rayClusterConfig": CLUSTER}
REQUIRED = {"rayClusterConfig": {"headGroupSpec"}, "headGroupSpec": {"template"}}
REQUIRED["workerGroupSpecs"] = {"groupName", "minReplicas", "maxReplicas", "template"}


def problems(value: Any, schema: Any = SPEC, path: str = "spec") -> Iterator[str]:
    if schema is POD_TEMPLATE:
        return
    if isinstance(schema, list):
        if not isinstance(value, list):
            yield f"{path} is not a list"
            return
        for item in value:
            yield from problems(item, schema[0], path)
    elif isinstance(schema, dict):
        if not isinstance(value, dict):
            yield f"{path} is not a mapping"
            return
        missing = REQUIRED.get(path.rpartition(".")[2], set()) - set(value)
        yield from (f"{path}.{name} is missing" for name in sorted(missing))
        for name, item in value.items():
            inner = schema.get(str) or schema.get(name)
            if inner is None:
                yield f"{path}.{name} is no field of KubeRay's"
            else:
                yield from problems(item, inner, f"{path}.{name}")
    elif type(value) is not schema:
        yield f"{path} is not of the type {schema.__name__}"


def pod_templates(service: dict[str, Any]) -> list[dict[str, Any]]:
    """The pod specs of the head and of the workers."""
    cluster = service["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]
