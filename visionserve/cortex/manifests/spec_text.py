import yaml

from visionserve.cortex.manifests.models import locations_on_cluster, with_locations
from visionserve.cortex.manifests.options import ExportOptions
from visionserve.cortex.spec.api import ApiFields, ApiSpec
from visionserve.errors import UsageError

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def spec_on_cluster(spec: ApiSpec, options: ExportOptions) -> str:
    """A spec file of this API alone, as the user wrote it but for the places of its models. Raises UsageError."""
    secret = next((name for name in CREDENTIALS if name in spec.predictor.env), None)
    if secret:
        raise UsageError(
            f"predictor.env.{secret} would be readable in the manifest: put it into a Secret and name that with "
            "--env-from-secret, or give the pods a role with --service-account."
        )
    placed = with_locations(spec, locations_on_cluster(spec, options))
    written = {name for name in ApiFields.model_fields if name in spec.explicit} | {"kind"}
    fields = placed.model_dump(mode="json", include=written, exclude_unset=True)
    if "config" in fields["predictor"]:
        # Not through JSON: YAML has dates, too.
        fields["predictor"]["config"] = spec.predictor.config
    return yaml.safe_dump([fields], sort_keys=False, allow_unicode=True)
