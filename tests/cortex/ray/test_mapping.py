import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tests.cortex.test_spec_fields import EVERY_FIELD, load_one, project
from visionserve.cortex.ray_serve.autoscaling import TICK, CortexPolicy
from visionserve.cortex.ray_serve.capacity import fitted
from visionserve.cortex.ray_serve.cluster import Node
from visionserve.cortex.ray_serve.mapping import Resources, autoscaling_config, deployment_options, resources
from visionserve.cortex.ray_serve.support import MAPPED, WITHOUT_COUNTERPART, ray_notes
from visionserve.cortex.spec.api import ApiFields, Section
from visionserve.cortex.spec.file import load_specs
from visionserve.errors import DeploymentError

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "ray.md"
GIB = 2**30

__all__ = ["project"]


def fields(section: type[Section] = ApiFields, parents: tuple[str, ...] = ()) -> Iterator[str]:
    for name, info in section.model_fields.items():
        inner = [kind for kind in kinds(info.annotation) if isinstance(kind, type) and issubclass(kind, Section)]
        if inner:
            yield from fields(inner[0], (*parents, name))
        if not inner or name == "paths":
            yield ".".join((*parents, name))


def kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from kinds(inner)


def test_every_field_is_mapped_or_said_to_have_no_counterpart():
    assert sorted([*MAPPED, *WITHOUT_COUNTERPART]) == sorted(fields())


def test_the_document_has_a_row_for_every_field():
    table = DOCUMENT.read_text()
    assert [name for name in fields() if f"`{name}`" not in table] == []


def test_what_is_written_and_has_no_counterpart_is_said(project: Path):
    spec = project / "cortex.yaml"
    spec.write_text(EVERY_FIELD.read_text())
    said = {note.split()[0] for note in ray_notes(load_specs(spec)[0])}
    assert said == {name for name in WITHOUT_COUNTERPART if name.split(".")[:2] != ["predictor", "models"]}


def test_nothing_is_said_of_what_is_not_written(project: Path):
    assert ray_notes(load_one(project)) == []


def test_a_python_predictor_of_several_processes_is_warned(project: Path):
    (note,) = ray_notes(load_one(project, predictor={"type": "python", "model_path": None, "processes_per_replica": 2}))
    assert "interpreter lock" in note


@pytest.mark.parametrize(
    ("compute", "reserved", "threads"),
    [
        ({}, Resources(0.2), 1),
        ({"cpu": None}, Resources(0.0), 1),
        ({"cpu": "1500m"}, Resources(2), 2),
        ({"cpu": 3, "mem": "2G"}, Resources(3, memory=2 * 10**9), 3),
        ({"gpu": 1}, Resources(0.2, gpus=1), 1),
        ({"inf": 2}, Resources(0.2, neuron_cores=8), 1),
    ],
)
def test_compute_is_what_a_replica_reserves(project: Path, compute: dict, reserved: Resources, threads: int):
    found = resources(load_one(project, compute=compute))
    assert (found, found.threads) == (reserved, threads)


@pytest.mark.parametrize(
    ("strategy", "replicas", "surge", "batch"),
    [
        ({}, 4, 25, 0.25),
        ({"max_surge": 1, "max_unavailable": 2}, 4, 25, 0.5),
        ({"max_surge": 0, "max_unavailable": 9}, 4, 0, 1.0),
        ({"max_surge": "100%", "max_unavailable": 0}, 3, 100, 0.01),
    ],
)
def test_update_strategy_is_a_part_of_the_replicas(project: Path, strategy: dict, replicas, surge, batch):
    options = deployment_options(load_one(project, update_strategy=strategy), replicas)
    assert (options["max_surge_percent"], options["rolling_update_percentage"]) == (surge, batch)


@pytest.mark.slow
def test_serve_takes_the_options_as_they_are(project: Path):
    from ray.serve.config import AutoscalingConfig

    spec = load_one(project, autoscaling={"min_replicas": 2, "max_replicas": 5, "window": "30s"})
    with pytest.warns(DeprecationWarning, match="metrics_interval_s"):
        config = AutoscalingConfig(**autoscaling_config(spec))
    assert (config.min_replicas, config.max_replicas, config.look_back_period_s) == (2, 5, 30.0)
    policy = config.policy.get_policy()(**config.policy.policy_kwargs)
    assert policy(Context(requests=10, replicas=2))[0] == 2
    json.dumps(deployment_options(spec))


@dataclass
class Context:
    """What the policy reads of Serve's AutoscalingContext."""

    requests: float
    replicas: int
    current_time: float = 1000.0
    policy_state: dict[str, Any] = field(default_factory=dict)

    @property
    def total_num_requests(self) -> float:
        return self.requests

    @property
    def target_num_replicas(self) -> int:
        return self.replicas


def policy(**changes: Any) -> CortexPolicy:
    spec_defaults = {
        "target": 2.0,
        "low": 1,
        "high": 20,
        "downscale_stabilization": 0.0,
        "upscale_stabilization": 0.0,
        "max_downscale_factor": 0.75,
        "max_upscale_factor": 1.5,
        "downscale_tolerance": 0.05,
        "upscale_tolerance": 0.05,
    }
    return CortexPolicy(**{**spec_defaults, **changes})


@pytest.mark.parametrize(
    ("requests", "replicas", "wanted"),
    [
        (8, 4, 4),
        (8.3, 4, 4),  # within the tolerance above
        (7.7, 4, 4),  # and below
        (9, 4, 5),
        (100, 4, 6),  # max_upscale_factor
        (100, 1, 2),  # one more is always allowed
        (0, 8, 6),  # max_downscale_factor
        (0, 2, 1),  # one less is always allowed
        (0, 1, 1),  # min_replicas
        (1000, 19, 20),  # max_replicas
    ],
)
def test_the_policy_decides_as_cortex_does(requests: float, replicas: int, wanted: int):
    assert policy()(Context(requests, replicas))[0] == wanted


def test_the_policy_decides_every_ten_seconds():
    decide = policy()
    wanted, state = decide(Context(100, 4))
    assert wanted == 6
    assert decide(Context(100, 6, 1000.0 + TICK - 1, state))[0] == 6
    assert decide(Context(100, 6, 1000.0 + TICK, state))[0] == 9


def test_the_policy_waits_until_the_load_has_been_low_for_the_whole_period():
    decide = policy(downscale_stabilization=30.0)
    now, state, replicas, seen = 1000.0, {}, 4, []
    for requests in (8, 0, 0, 8, 0, 0, 0, 0):
        replicas, state = decide(Context(requests, replicas, now, state))
        seen.append(replicas)
        now += TICK
    assert seen == [4, 4, 4, 4, 4, 4, 4, 3]


def node(**amounts: float) -> Node:
    return Node("1", "127.0.0.1", True, amounts, amounts, "")


def test_a_request_for_more_cpus_than_any_node_has_is_cut(project: Path):
    spec = load_one(project, compute={"cpu": 3})
    wanted, (note,) = fitted(spec, resources(spec), [node(CPU=1), node(CPU=2)])
    assert (wanted.cpus, wanted.threads) == (2, 2)
    assert "cut to 2" in note


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"compute": {"gpu": 1}}, "compute.gpu of 1 GPU, but no node of the cluster has more than 0 GPU"),
        ({"compute": {"inf": 1}}, "compute.inf of 4 neuron_cores"),
        ({"compute": {"mem": "64G"}}, "compute.mem of 61035 MiB"),
        ({"compute": {"cpu": 1}, "autoscaling": {"min_replicas": 5}}, "hold only 4 such replicas"),
    ],
)
def test_what_no_node_could_hold_is_refused(project: Path, sections: dict, said: str):
    spec = load_one(project, **sections)
    with pytest.raises(DeploymentError, match=said):
        fitted(spec, resources(spec), [node(CPU=2, memory=8 * GIB), node(CPU=2, memory=4 * GIB)])


def test_the_project_that_is_shipped_is_what_cortex_would_upload(project: Path):
    from visionserve.cortex.project_files import project_files

    for name in (".git/config", "data/a.bin", "models/m/1/saved_model.pb", "src/__pycache__/x.pyc", "src/x.py"):
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({}))
    (project / ".cortexignore").write_text("/data/\n")
    (project / "env").mkdir()
    (project / "env" / "pyvenv.cfg").touch()
    found = project_files(project, [project / "models" / "m"])
    assert [str(path) for path in found] == ["predictor.py", "src/x.py"]
