"""No field of a spec is dropped without a word."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cortex.manifests.exporting import Exported, export, write_spec
from visionserve.cortex.spec.api import ApiFields, section_of

# What the container, or the replica, does with the spec that it gets.
BY_THE_REPLICA = {
    "name", "kind", "predictor.type", "predictor.path", "predictor.model_path", "predictor.signature_key",
    "predictor.models.dir", "predictor.models.paths", "predictor.models.signature_key",
    "predictor.server_side_batching.max_batch_size", "predictor.server_side_batching.batch_interval",
    "predictor.processes_per_replica", "predictor.threads_per_process", "predictor.config", "predictor.python_path",
}  # fmt: skip
# Ray's autoscaler is Cortex's formula, which the replica's deployment gets with the spec.
BY_THE_REPLICA_ON_RAY = {
    f"autoscaling.{field}"
    for field in (
        "target_replica_concurrency", "max_replica_concurrency", "window", "downscale_stabilization_period",
        "upscale_stabilization_period", "max_downscale_factor", "max_upscale_factor", "downscale_tolerance",
        "upscale_tolerance",
    )
}  # fmt: skip
# Fields that are in the manifest itself: two values that give two manifests.
IN_THE_MANIFEST: dict[str, tuple[Any, Any]] = {
    "predictor.env": ({"LEVEL": "3"}, {"LEVEL": "4"}),
    "compute.cpu": (1, 2),
    "compute.gpu": (1, 2),
    "compute.inf": (1, 2),
    "compute.mem": ("1G", "2G"),
    "autoscaling.min_replicas": (1, 2),
    "autoscaling.max_replicas": (5, 6),
    "autoscaling.init_replicas": (2, 3),
}
IN_THAT_OF_KSERVE = {
    "autoscaling.target_replica_concurrency": (1, 2),
    "autoscaling.max_replica_concurrency": (10, 11),
    "autoscaling.window": ("10s", "20s"),
    "autoscaling.downscale_stabilization_period": ("10s", "20s"),
}
IN_THAT_OF_RAY = {"networking.endpoint": ("/a", "/b")}
# Under KServe an API has a host name of its own, and its container answers at both paths.
BY_THE_REPLICA_OF_KSERVE = {"networking.endpoint"}
SAID: dict[str, Any] = {
    "predictor.image": "some/image",
    "predictor.tensorflow_serving_image": "some/image",
    "predictor.models.cache_size": None,
    "predictor.models.disk_cache_size": None,
    "networking.local_port": 9000,
    "networking.api_gateway": "none",
    "monitoring.model_type": "classification",
    "monitoring.key": "label",
    "update_strategy.max_surge": "50%",
    "update_strategy.max_unavailable": "50%",
}
SAID_OF_KSERVE = {
    "autoscaling.upscale_stabilization_period": "10s",
    "autoscaling.max_downscale_factor": 0.5,
    "autoscaling.max_upscale_factor": 3,
    "autoscaling.downscale_tolerance": 0.2,
    "autoscaling.upscale_tolerance": 0.2,
}
CACHES = {"models": {"dir": "s3://bucket/models", "cache_size": 1, "disk_cache_size": 2}, "model_path": None}
KINDS = {
    "kserve": (
        BY_THE_REPLICA | BY_THE_REPLICA_OF_KSERVE,
        IN_THE_MANIFEST | IN_THAT_OF_KSERVE,
        SAID | SAID_OF_KSERVE,
    ),
    "rayservice": (BY_THE_REPLICA | BY_THE_REPLICA_ON_RAY, IN_THE_MANIFEST | IN_THAT_OF_RAY, SAID),
}


def fields(path: tuple[str, ...] = ()) -> set[str]:
    section = section_of(path)
    assert section
    names = set()
    for name in section.model_fields:
        # Each entry of predictor.models.paths is a model, all of which the replica loads.
        inner = section_of((*path, name)) if (*path, name) != ("predictor", "models", "paths") else None
        names |= fields((*path, name)) if inner else {".".join((*path, name))}
    return names


def spec_with(folder: Path, field: str, value: Any) -> Path:
    section, _, name = field.partition(".")
    return write_spec(folder, **{section: {name: value}})


def served(exported: Exported) -> str:
    """All but the project, and the spec that the replica gets in it."""
    [document] = [each for each in exported.documents if each["kind"] != "ConfigMap"]
    if document["kind"] == "RayService":
        config = yaml.safe_load(document["spec"]["serveConfigV2"])
        del config["applications"][0]["args"]
        document["spec"]["serveConfigV2"] = config
    name = exported.one("ConfigMap")["metadata"]["name"]
    return yaml.safe_dump(document).replace(name, "")


@pytest.mark.parametrize("kind", KINDS)
def test_each_field_is_the_replica_s_or_the_manifest_s_or_is_said(kind: str) -> None:
    tables = [set(table) for table in KINDS[kind]]
    assert set(ApiFields.model_fields) == {field.partition(".")[0] for field in fields()}
    assert set.union(*tables) == fields()
    assert sum(map(len, tables)) == len(fields())


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in KINDS for field in KINDS[kind][1]])
def test_a_field_of_the_manifest_changes_it(tmp_path: Path, kind: str, field: str) -> None:
    one, other = [
        served(export(spec_with(tmp_path / str(index), field, value), kind))
        for index, value in enumerate(KINDS[kind][1][field])
    ]
    assert one != other


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in KINDS for field in KINDS[kind][2]])
def test_a_field_without_a_counterpart_is_said_where_it_is_written(tmp_path: Path, kind: str, field: str) -> None:
    assert export(write_spec(tmp_path / "without"), kind).notes == []
    value = KINDS[kind][2][field]
    sections = {"predictor": CACHES} if value is None else None
    spec = write_spec(tmp_path / "with", **sections) if sections else spec_with(tmp_path / "with", field, value)
    if field == "monitoring.key":
        spec = write_spec(tmp_path / "with", monitoring={"model_type": "regression", "key": value})
    # The section that only has such fields may stand for them.
    names = (field, "monitoring") if field.startswith("monitoring.") else (field,)
    [note] = [note for note in export(spec, kind).notes if any(f": {name} has no effect on " in note for name in names)]
    assert note.startswith("note: cats: ")
    assert note.endswith(".")


@pytest.mark.parametrize("kind", KINDS)
def test_the_models_of_a_python_predictor_are_said_to_be_its_own_matter(tmp_path: Path, kind: str) -> None:
    exported = export(write_spec(tmp_path, predictor={"type": "python", "model_path": "models/own"}), kind)
    assert [note for note in exported.notes if "predictor.model_path has no effect on" in note]
