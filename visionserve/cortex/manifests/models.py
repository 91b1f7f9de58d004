from pathlib import PurePosixPath

from visionserve.cortex.manifests.options import ExportOptions
from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import UsageError

# Where KServe mounts a claim, and an image of one's own has its models.
MODELS = "/mnt/models"


def local_locations(spec: ApiSpec) -> list[str]:
    """The folders of this machine that a spec names as models, as it writes them."""
    predictor = spec.predictor
    if predictor.type != "tensorflow":
        return []
    named = [predictor.model_path]
    if predictor.models:
        named += [predictor.models.dir, *(model.model_path for model in predictor.models.paths)]
    return [location for location in named if location and not location.startswith("s3://")]


def locations_on_cluster(spec: ApiSpec, options: ExportOptions) -> dict[str, str]:
    """Where a pod has what the spec names by a folder of this machine: folder -> path in the container.

    Raises UsageError where the pod would not have it.
    """
    folders = sorted(set(local_locations(spec)))
    if not folders:
        return {}
    if not options.models_claim and not options.models_in_image:
        raise UsageError(
            f"{folders[0]} in {spec.file.name} is a folder of this machine, which a cluster does not reach: run "
            "visionserve publish s3://BUCKET/PREFIX and export the copy of the spec that it writes, or add "
            f"--models-claim CLAIM or --models-in-image where that holds the model (as {MODELS}/NAME)."
        )
    # The claim of predictor.models.dir is that folder itself.
    whole = spec.predictor.models.dir if spec.predictor.models else None
    places = {folder: MODELS if folder == whole else f"{MODELS}/{PurePosixPath(folder).name}" for folder in folders}
    for folder, place in places.items():
        twin = next((other for other in folders if other != folder and places[other] == place), None)
        if twin:
            raise UsageError(f"{folder} and {twin} would both be {place} on the cluster: rename one of them.")
    return places


def with_locations(spec: ApiSpec, places: dict[str, str]) -> ApiSpec:
    """The spec with other places of its models; what the user left out stays left out."""
    predictor, models = spec.predictor, spec.predictor.models
    if predictor.model_path in places:
        predictor = predictor.model_copy(update={"model_path": places[predictor.model_path]})
    if models and models.dir in places:
        predictor = predictor.model_copy(update={"models": models.model_copy(update={"dir": places[models.dir]})})
    if models and models.paths:
        paths = tuple(
            model.model_copy(update={"model_path": places.get(model.model_path, model.model_path)})
            for model in models.paths
        )
        predictor = predictor.model_copy(update={"models": models.model_copy(update={"paths": paths})})
    return spec.model_copy(update={"predictor": predictor})
