from pathlib import Path

from visionserve.cores import available_cores
from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import ModelError
from visionserve.inference.engines import choose_engine
from visionserve.inference.model_folder import find_version
from visionserve.inference.model_settings import ModelSettings
from visionserve.inference.signature_key import DEFAULT_SIGNATURE

# What Cortex calls the model of an API that has only one.
SINGLE_MODEL = "_cortex_default"
HARDWARE_SUFFIXES = ("_gpu", "_neuron")


def local_models(
    spec: ApiSpec, engine: str, on_cpu: bool = False, threads: int | None = None
) -> tuple[list[ModelSettings], list[str]]:
    """The models of a spec as this machine serves them, and sentences on what was decided on the way.

    `engine`: one of ENGINES; `on_cpu`: --compute cpu, where a build for other hardware gives way to its CPU build;
    `threads`: of each model's engine, None for all cores.
    Raises ModelError for a model that is missing or that its engine cannot run, MissingError for an engine that is not
    installed.
    """
    if spec.predictor.type != "tensorflow":
        return [], []
    accelerated = not on_cpu and bool(spec.compute.gpu or spec.compute.inf)
    batching = spec.predictor.server_side_batching
    models, notes = [], []
    for name, location, signature_key in _declared(spec):
        key = signature_key or DEFAULT_SIGNATURE
        chosen, path = engine, Path(location)
        if engine != "null":
            path = _fetched(spec, location)
            if on_cpu and (instead := cpu_build(path)):
                notes.append(f"{path.name} is built for other hardware: serving its CPU build {instead.name}.")
                path = instead
            _, folder = find_version(path)
            chosen = choose_engine(engine, key, accelerated, folder)
        models.append(
            ModelSettings(
                name=name,
                path=path,
                signature_key=key,
                engine=chosen,
                threads=threads or available_cores(),
                max_batch_size=batching.max_batch_size if batching else None,
                batch_interval=batching.batch_interval if batching else 0.0,
            )
        )
    return models, notes


def _declared(spec: ApiSpec) -> list[tuple[str, str, str | None]]:
    predictor = spec.predictor
    if predictor.model_path is not None:
        return [(SINGLE_MODEL, predictor.model_path, predictor.signature_key)]
    assert predictor.models is not None
    if predictor.models.dir is not None:
        folder = _fetched(spec, predictor.models.dir)
        if not folder.is_dir():
            raise ModelError(f"The folder {folder} of predictor.models.dir is missing.")
        found = sorted(path for path in folder.iterdir() if path.is_dir())
        if not found:
            raise ModelError(f"The folder {folder} of predictor.models.dir holds no model folders.")
        return [(path.name, str(path), predictor.models.signature_key) for path in found]
    default = predictor.models.signature_key
    return [(model.name, model.model_path, model.signature_key or default) for model in predictor.models.paths]


def _fetched(spec: ApiSpec, location: str) -> Path:
    if location.startswith("s3://"):
        from visionserve.models.s3 import fetch_model

        return fetch_model(location)
    return spec.project / location


def cpu_build(path: Path) -> Path | None:
    """The build for the CPU beside one for other hardware; None where there is none."""
    for suffix in HARDWARE_SUFFIXES:
        if path.name.endswith(suffix):
            beside = path.with_name(path.name.removesuffix(suffix))
            return beside if beside.is_dir() else None
    return None
