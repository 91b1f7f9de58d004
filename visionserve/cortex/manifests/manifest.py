from dataclasses import dataclass
from typing import Any

from visionserve.cortex.manifests.kserve import inference_service, kserve_notes
from visionserve.cortex.manifests.options import ExportOptions
from visionserve.cortex.manifests.project import project_of
from visionserve.cortex.manifests.ray_service import ray_service, ray_service_notes
from visionserve.cortex.manifests.spec_text import spec_on_cluster
from visionserve.cortex.spec.api import ApiSpec

KINDS = {"kserve": (inference_service, kserve_notes), "rayservice": (ray_service, ray_service_notes)}


@dataclass(frozen=True)
class Manifest:
    """The objects of one API, and a sentence for each written field that has no counterpart there."""

    documents: list[dict[str, Any]]
    notes: list[str]


def manifest(spec: ApiSpec, kind: str, options: ExportOptions) -> Manifest:
    """kind: one of KINDS. Raises UsageError for what a cluster could not run."""
    served, notes = KINDS[kind]
    project = project_of(spec, spec_on_cluster(spec, options), options.namespace)
    return Manifest([project.config_map, served(spec, options, project)], notes(spec))
