"""What the fields of one API must be together. A rule gives the field at fault and the end of the sentence."""

from collections.abc import Iterator
from pathlib import Path

from visionserve.cortex.spec.api import ApiFields, Autoscaling, Models, Predictor
from visionserve.cortex.spec.yaml_lines import FieldPath

NEURON_CORES = 4  # of one Inferentia chip
OWN_PAGES = ("/healthz", "/metrics", "/sample.jpg")

BrokenRule = tuple[FieldPath, str]


def broken_rules(api: ApiFields, project: Path) -> Iterator[BrokenRule]:
    """project: the folder that the spec's paths are relative to."""
    predictor, compute = api.predictor, api.compute
    yield from _files(predictor, project)
    yield from _model_source(predictor)
    if predictor.models:
        yield from _models(predictor, predictor.models)
    yield from _batching(predictor, compute.inf)
    for name in predictor.env:
        if name.startswith("CORTEX_"):
            yield ("predictor", "env", name), "names that start with CORTEX_ belong to Cortex: choose another"
    if compute.gpu and compute.inf:
        yield ("compute", "inf"), "a replica gets gpu or inf, not both: leave one out"
    cores = NEURON_CORES * compute.inf
    if cores and cores % predictor.processes_per_replica:
        yield (
            ("predictor", "processes_per_replica"),
            f"{predictor.processes_per_replica} processes cannot share {cores} NeuronCores evenly: "
            f"use one of {', '.join(str(n) for n in range(1, cores + 1) if cores % n == 0)}",
        )
    yield from _autoscaling(api.autoscaling)
    if api.networking.endpoint in OWN_PAGES:
        yield ("networking", "endpoint"), f"{api.networking.endpoint} is a page that every API has: choose another path"
    surge, unavailable = api.update_strategy.max_surge, api.update_strategy.max_unavailable
    if str(surge).rstrip("%") in ("0", "00") and str(unavailable).rstrip("%") in ("0", "00"):
        yield ("update_strategy",), "max_surge and max_unavailable are both 0, so nothing could ever be updated"


def _files(predictor: Predictor, project: Path) -> Iterator[BrokenRule]:
    folder = project.resolve()
    file = (folder / predictor.path).resolve()
    if Path(predictor.path).is_absolute() or not file.is_relative_to(folder):
        yield ("predictor", "path"), f"{predictor.path!r} is outside {project}, the folder of the spec"
    elif file.suffix != ".py":
        yield ("predictor", "path"), f"{predictor.path!r} is not a .py file"
    elif not file.is_file():
        yield ("predictor", "path"), f"{predictor.path!r} is not there: it is looked for in {project}"
    if predictor.python_path is None:
        return
    root = (folder / predictor.python_path).resolve()
    if Path(predictor.python_path).is_absolute() or not root.is_relative_to(folder):
        yield ("predictor", "python_path"), f"{predictor.python_path!r} is outside {project}, the folder of the spec"
    elif not root.is_dir():
        yield ("predictor", "python_path"), f"{predictor.python_path!r} is not a folder in {project}"


def _model_source(predictor: Predictor) -> Iterator[BrokenRule]:
    if predictor.model_path is not None and predictor.models is not None:
        yield ("predictor", "models"), "stands beside model_path: keep one of them"
    if predictor.type == "tensorflow":
        if predictor.model_path is None and predictor.models is None:
            yield ("predictor",), "a tensorflow predictor needs model_path or models"
        return
    models = predictor.models
    tensorflow_only: dict[FieldPath, object] = {
        ("signature_key",): predictor.signature_key,
        ("server_side_batching",): predictor.server_side_batching,
        ("tensorflow_serving_image",): predictor.tensorflow_serving_image,
        ("models", "signature_key"): models.signature_key if models else None,
    }
    for index, model in enumerate(models.paths if models else ()):
        tensorflow_only["models", "paths", index, "signature_key"] = model.signature_key
    for path, value in tensorflow_only.items():
        if value is not None:
            yield ("predictor", *path), "is only for predictor.type tensorflow: leave it out"


def _models(predictor: Predictor, models: Models) -> Iterator[BrokenRule]:
    path: FieldPath = ("predictor", "models")
    if (models.dir is None) == (not models.paths):
        yield path, "needs dir or paths, and not both"
    names = [model.name for model in models.paths]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (*path, "paths", index, "name"), f"{name!r} names another model too: choose another name"
    if predictor.signature_key is not None:
        yield ("predictor", "signature_key"), "goes with model_path; with models, write it inside models"
    if (models.cache_size is None) != (models.disk_cache_size is None):
        yield path, "cache_size and disk_cache_size go together: give both or none"
    elif models.cache_size is not None and models.disk_cache_size is not None:
        if models.cache_size > models.disk_cache_size:
            yield (*path, "cache_size"), f"{models.cache_size} is more than disk_cache_size {models.disk_cache_size}"
        if predictor.processes_per_replica > 1:
            yield (*path, "cache_size"), "needs processes_per_replica 1: each process would keep its own cache"


def _batching(predictor: Predictor, inf: int) -> Iterator[BrokenRule]:
    batching = predictor.server_side_batching
    if batching is None or predictor.type != "tensorflow":
        return
    # On Inferentia each process of a real Cortex batches for its own NeuronCores.
    limit = predictor.threads_per_process * (1 if inf else predictor.processes_per_replica)
    if batching.max_batch_size > limit:
        meaning = "threads_per_process" if inf else "processes_per_replica * threads_per_process"
        yield (
            ("predictor", "server_side_batching", "max_batch_size"),
            f"{batching.max_batch_size} is more than {meaning}, {limit}: so many requests never wait together",
        )


def _autoscaling(autoscaling: Autoscaling) -> Iterator[BrokenRule]:
    low, high, first = autoscaling.min_replicas, autoscaling.max_replicas, autoscaling.init_replicas
    if low > high:
        yield ("autoscaling", "min_replicas"), f"{low} is more than max_replicas {high}"
    elif not low <= first <= high:
        yield ("autoscaling", "init_replicas"), f"{first} is not from min_replicas {low} to max_replicas {high}"
    target, most = autoscaling.target_replica_concurrency, autoscaling.max_replica_concurrency
    if target > most:
        yield (
            ("autoscaling", "max_replica_concurrency"),
            f"{most} is less than target_replica_concurrency {target:g} "
            "(by default processes_per_replica * threads_per_process)",
        )
    if autoscaling.window < 10 or autoscaling.window % 10:
        yield ("autoscaling", "window"), f"{autoscaling.window:g}s is not a multiple of 10s"
