from pathlib import Path

import pytest
import yaml

from visionserve.cortex.spec.file import load_specs
from visionserve.errors import UsageError


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "predictor.py").touch()
    (folder / "notes.txt").touch()
    (tmp_path / "outside.py").touch()
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    monkeypatch.chdir(folder)
    return folder


MODELS = [{"name": "a", "model_path": "models/a"}, {"name": "b", "model_path": "models/b"}]
WITH_MODELS = {"model_path": None, "models": {"paths": MODELS}}
BATCHING = {"max_batch_size": 8, "batch_interval": "10ms"}


def check(predictor: dict, **sections: dict) -> None:
    base = {"type": "tensorflow", "path": "predictor.py", "model_path": "models/resnet50"}
    fields = {"name": "cats", "kind": "RealtimeAPI", "predictor": {**base, **predictor}, **sections}
    Path("cortex.yaml").write_text(yaml.safe_dump([fields], sort_keys=False))
    load_specs(Path("cortex.yaml"))


def models(**fields: object) -> dict:
    return {**WITH_MODELS, "models": {"paths": MODELS, **fields}}


BROKEN = [
    ({"path": "other.py"}, {}, "5: predictor.path: 'other.py' is not there: it is looked for in "),
    ({"path": "notes.txt"}, {}, "5: predictor.path: 'notes.txt' is not a .py file"),
    ({"path": "../outside.py"}, {}, "5: predictor.path: '../outside.py' is outside "),
    ({"path": "link.py"}, {}, "5: predictor.path: 'link.py' is outside "),
    ({"path": "/etc/passwd"}, {}, "5: predictor.path: '/etc/passwd' is outside "),
    ({"python_path": "lib"}, {}, "7: predictor.python_path: 'lib' is not a folder in "),
    ({"python_path": ".."}, {}, "7: predictor.python_path: '..' is outside "),
    ({"model_path": None}, {}, "3: predictor: a tensorflow predictor needs model_path or models"),
    ({"models": {"dir": "models"}}, {}, "7: predictor.models: stands beside model_path: keep one of them"),
    (models(dir="models"), {}, "7: predictor.models: needs dir or paths, and not both"),
    (models(paths=[]), {}, "7: predictor.models: needs dir or paths, and not both"),
    (
        models(paths=[MODELS[0], MODELS[1] | {"name": "a"}]),
        {},
        "11: predictor.models.paths[1].name: 'a' names another model too",
    ),
    (models() | {"signature_key": "s"}, {}, "13: predictor.signature_key: goes with model_path"),
    (models(cache_size=1), {}, "7: predictor.models: cache_size and disk_cache_size go together"),
    (models(cache_size=2, disk_cache_size=1), {}, "13: predictor.models.cache_size: 2 is more than disk_cache_size 1"),
    (
        models(cache_size=1, disk_cache_size=1) | {"processes_per_replica": 2},
        {},
        "13: predictor.models.cache_size: needs processes_per_replica 1",
    ),
    ({"type": "python", "signature_key": "s"}, {}, "7: predictor.signature_key: is only for predictor.type tensorflow"),
    ({"type": "python", "server_side_batching": BATCHING}, {}, "7: predictor.server_side_batching: is only for"),
    ({"type": "python", "tensorflow_serving_image": "i"}, {}, "7: predictor.tensorflow_serving_image: is only for"),
    (
        {"server_side_batching": BATCHING, "threads_per_process": 7},
        {},
        "8: predictor.server_side_batching.max_batch_size: 8 is more than processes_per_replica * threads_per_pro",
    ),
    (
        {"server_side_batching": BATCHING, "threads_per_process": 4, "processes_per_replica": 2},
        {"compute": {"inf": 1}},
        "8: predictor.server_side_batching.max_batch_size: 8 is more than threads_per_process, 4",
    ),
    ({"env": {"CORTEX_PORT": "1"}}, {}, "8: predictor.env.CORTEX_PORT: names that start with CORTEX_ belong to Cortex"),
    ({}, {"compute": {"gpu": 1, "inf": 1}}, "9: compute.inf: a replica gets gpu or inf, not both"),
    (
        {"processes_per_replica": 3},
        {"compute": {"inf": 1}},
        "7: predictor.processes_per_replica: 3 processes cannot share 4 NeuronCores evenly: use one of 1, 2, 4",
    ),
    (
        {},
        {"autoscaling": {"min_replicas": 5, "max_replicas": 4}},
        "8: autoscaling.min_replicas: 5 is more than max_replicas 4",
    ),
    (
        {},
        {"autoscaling": {"init_replicas": 9, "max_replicas": 4}},
        "8: autoscaling.init_replicas: 9 is not from min_replicas 1 to max_replicas 4",
    ),
    (
        {"threads_per_process": 8},
        {"autoscaling": {"max_replica_concurrency": 4}},
        "9: autoscaling.max_replica_concurrency: 4 is less than target_replica_concurrency 8",
    ),
    ({}, {"autoscaling": {"window": "15s"}}, "8: autoscaling.window: 15s is not a multiple of 10s"),
    (
        {},
        {"update_strategy": {"max_surge": "0%", "max_unavailable": 0}},
        "7: update_strategy: max_surge and max_unavailable are both 0",
    ),
    ({}, {"networking": {"endpoint": "healthz"}}, "8: networking.endpoint: /healthz is a page that every API has"),
]


@pytest.mark.parametrize(("predictor", "sections", "expected"), BROKEN)
def test_fields_that_contradict_each_other_are_refused(predictor: dict, sections: dict, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(predictor, **sections)
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"cortex.yaml:{expected}")


@pytest.mark.parametrize(
    ("predictor", "sections"),
    [
        ({"path": "./predictor.py"}, {}),
        ({"python_path": "src"}, {}),
        (models(), {}),
        (models(cache_size=1, disk_cache_size=2), {}),
        ({"type": "python", "model_path": None}, {}),
        ({"server_side_batching": BATCHING, "threads_per_process": 4, "processes_per_replica": 2}, {}),
        ({"server_side_batching": BATCHING, "threads_per_process": 8}, {"compute": {"inf": 1}}),
        ({"processes_per_replica": 4}, {"compute": {"inf": 1}}),
        ({"threads_per_process": 8}, {"autoscaling": {"max_replica_concurrency": 8}}),
        ({}, {"autoscaling": {"min_replicas": 3, "init_replicas": 3, "max_replicas": 3}}),
        ({}, {"update_strategy": {"max_surge": 0}}),
    ],
)
def test_fields_that_agree_are_accepted(predictor: dict, sections: dict) -> None:
    check(predictor, **sections)
