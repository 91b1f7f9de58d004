from typing import Any

from visionserve.cortex.manifests.models import MODELS, local_locations
from visionserve.cortex.manifests.options import ExportOptions
from visionserve.cortex.manifests.project import PROJECT
from visionserve.cortex.spec.api import ApiSpec

SECURITY = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
PROJECT_MOUNT = {"name": "project", "mountPath": PROJECT, "readOnly": True}
MODELS_MOUNT = {"name": "models", "mountPath": MODELS, "readOnly": True}


def metadata(spec: ApiSpec, options: ExportOptions) -> dict[str, Any]:
    named: dict[str, Any] = {"name": spec.name, "labels": {"app.kubernetes.io/name": spec.name}}
    if options.namespace:
        named["namespace"] = options.namespace
    return named


def spec_path(spec: ApiSpec) -> str:
    """Where a container has the spec."""
    return f"{PROJECT}/{spec.file.name}"


def environment(spec: ApiSpec, options: ExportOptions) -> dict[str, Any]:
    """The fields `env` and `envFrom` of a container."""
    fields: dict[str, Any] = {}
    if spec.predictor.env:
        fields["env"] = [{"name": name, "value": value} for name, value in spec.predictor.env.items()]
    if options.secrets:
        fields["envFrom"] = [{"secretRef": {"name": name}} for name in options.secrets]
    return fields


def claims_models(spec: ApiSpec, options: ExportOptions) -> bool:
    return options.models_claim is not None and bool(local_locations(spec))
