import random
from pathlib import Path

import pytest
import yaml

from visionserve.cortex.local_support import local_notes
from visionserve.cortex.spec.api import ApiSpec
from visionserve.cortex.spec.file import load_specs
from visionserve.errors import UsageError

EVERY_FIELD = Path(__file__).with_name("specs") / "every_field.yaml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "predictor.py").write_text("class TensorFlowPredictor: pass\n")
    (tmp_path / "src").mkdir()
    return tmp_path


def load(project: Path, text: str) -> list[ApiSpec]:
    file = project / "cortex.yaml"
    file.write_text(text)
    return load_specs(file)


def api(**sections: dict) -> dict:
    """The smallest valid API, with fields added to its sections."""
    fields = {
        "name": "cats",
        "kind": "RealtimeAPI",
        "predictor": {"type": "tensorflow", "path": "predictor.py", "model_path": "models/resnet50"},
    }
    for name, section in sections.items():
        fields[name] = {**fields.get(name, {}), **section} if isinstance(section, dict) else section
    return fields


def load_one(project: Path, **sections: dict) -> ApiSpec:
    [spec] = load(project, yaml.safe_dump([api(**sections)], sort_keys=False))
    return spec


def refusal(project: Path, **sections: dict) -> str:
    with pytest.raises(UsageError) as caught:
        load_one(project, **sections)
    return str(caught.value).replace(f"{project}/", "")


def test_every_field_of_a_spec_is_read(project: Path) -> None:
    single, several, folder, own = load(project, EVERY_FIELD.read_text())
    predictor = single.predictor
    assert (predictor.type, predictor.path, predictor.model_path) == (
        "tensorflow",
        "predictor.py",
        "s3://bucket/models/resnet50",
    )
    assert predictor.server_side_batching is not None
    assert predictor.server_side_batching.max_batch_size == 8
    assert predictor.server_side_batching.batch_interval == 0.1
    assert predictor.config == {"threshold": 0.5, "labels": ["cat", "dog"], "since": "2020-10-01"}
    assert predictor.env == {"LEVEL": "3", "EMPTY": ""}
    assert (single.networking.endpoint, single.networking.local_port) == ("/animals/cats", 9000)
    assert (single.compute.cpu, single.compute.gpu, single.compute.mem) == (0.2, 1, 200 * 2**20)
    autoscaling = single.autoscaling
    assert (autoscaling.window, autoscaling.downscale_stabilization_period) == (30.0, 5400.0)
    assert (autoscaling.upscale_stabilization_period, autoscaling.target_replica_concurrency) == (1.5, 6.5)
    assert (single.update_strategy.max_surge, single.update_strategy.max_unavailable) == (5, "10%")
    assert single.monitoring is not None
    assert single.monitoring.model_dump() == {"model_type": "classification", "key": "label"}
    assert several.predictor.models is not None
    assert [model.name for model in several.predictor.models.paths] == ["resnet50", "detector"]
    assert (several.compute.inf, several.predictor.models.cache_size) == (1, 1)
    assert folder.predictor.models is not None
    assert folder.predictor.models.dir == "models"
    assert (own.predictor.type, own.predictor.config) == ("python", {"depth": 3})
    assert (single.project, single.file) == (project, project / "cortex.yaml")


def test_fields_that_are_left_out_have_cortex_defaults(project: Path) -> None:
    spec = load_one(project, predictor={"processes_per_replica": 2, "threads_per_process": 3})
    assert spec.networking.model_dump() == {"endpoint": "/cats", "local_port": 8888, "api_gateway": "public"}
    assert spec.compute.model_dump() == {"cpu": 0.2, "gpu": 0, "inf": 0, "mem": None}
    assert spec.monitoring is None
    assert spec.autoscaling.model_dump() == {
        "min_replicas": 1,
        "max_replicas": 100,
        "init_replicas": 1,
        "target_replica_concurrency": 6.0,
        "max_replica_concurrency": 1024,
        "window": 60.0,
        "downscale_stabilization_period": 300.0,
        "upscale_stabilization_period": 60.0,
        "max_downscale_factor": 0.75,
        "max_upscale_factor": 1.5,
        "downscale_tolerance": 0.05,
        "upscale_tolerance": 0.05,
    }
    assert spec.update_strategy.model_dump() == {"max_surge": "25%", "max_unavailable": "25%"}
    plain = load_one(project)
    assert (plain.predictor.processes_per_replica, plain.predictor.threads_per_process) == (1, 1)
    assert load_one(project, autoscaling={"min_replicas": 4}).autoscaling.init_replicas == 4


def test_a_field_without_a_value_counts_as_left_out(project: Path) -> None:
    [spec] = load(project, yaml.safe_dump(api(networking=None, predictor={"config": None, "env": None})))
    assert spec.networking.local_port == 8888
    assert spec.predictor.config == {}
    assert "networking" not in spec.explicit
    assert load_one(project, compute={"cpu": None}).compute.cpu is None


def test_the_fields_that_the_user_wrote_are_known_by_name(project: Path) -> None:
    tracker = {"key": "label", "model_type": "classification"}
    spec = load_one(project, compute={"accelerator": 1}, predictor={"config": {"a": {"b": 1}}}, tracker=tracker)
    assert spec.explicit == {
        *("name", "kind", "predictor", "predictor.type", "predictor.path", "predictor.model_path", "predictor.config"),
        *("compute", "compute.inf", "monitoring", "monitoring.key", "monitoring.model_type"),
    }


def test_a_spec_goes_through_json_unchanged(project: Path) -> None:
    for spec in [*load(project, EVERY_FIELD.read_text()), load_one(project, compute={"cpu": None})]:
        text = spec.model_dump_json()
        again = ApiSpec.model_validate_json(text)
        assert again == spec
        assert again.model_dump_json() == text


def test_a_spec_cannot_be_changed(project: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_one(project).predictor.threads_per_process = 2


@pytest.mark.parametrize(
    ("older", "current"),
    [
        ({"predictor": {"model": "m", "model_path": None}}, {"predictor": {"model_path": "m"}}),
        ({"compute": {"accelerator": 1}}, {"compute": {"inf": 1}}),
        ({"autoscaling": {"workers_per_replica": 2}}, {"predictor": {"processes_per_replica": 2}}),
        ({"autoscaling": {"threads_per_worker": 3}}, {"predictor": {"threads_per_process": 3}}),
        ({"predictor": {"tf_serve_image": "i"}}, {"predictor": {"tensorflow_serving_image": "i"}}),
        ({"endpoint": "cats"}, {"networking": {"endpoint": "/cats"}}),
        ({"tracker": {"model_type": "regression"}}, {"monitoring": {"model_type": "regression"}}),
        ({"kind": "SyncAPI"}, {"kind": "RealtimeAPI"}),
        ({"kind": None}, {"kind": "RealtimeAPI"}),
    ],
)
def test_an_older_name_means_the_same_as_todays(project: Path, older: dict, current: dict) -> None:
    written = api(**older)
    if written["predictor"].get("model_path", "") is None:
        del written["predictor"]["model_path"]
    [spec] = load(project, yaml.safe_dump(written))
    expected = load_one(project, **current)
    assert spec.model_dump(exclude={"explicit"}) == expected.model_dump(exclude={"explicit"})


def test_the_plain_list_of_models_means_the_same_as_paths(project: Path) -> None:
    models = [{"name": "a", "model_path": "models/a"}, {"name": "b", "model_path": "models/b", "signature_key": "s"}]
    fields = api()
    del fields["predictor"]["model_path"]
    fields["predictor"]["models"] = models
    [older] = load(project, yaml.safe_dump(fields))
    fields["predictor"]["models"] = {"paths": models}
    [current] = load(project, yaml.safe_dump(fields))
    assert older == current


def test_a_field_under_both_its_names_is_refused(project: Path) -> None:
    assert refusal(project, predictor={"model": "models/a"}) == (
        "cortex.yaml:7: predictor.model is the older name of predictor.model_path, which is there too: keep only that"
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("1.5s", 1.5), ("60s", 60.0), ("5m", 300.0), ("1h", 3600.0), ("1m30s", 90.0), (".5us", 5e-7)],
)
def test_durations_become_seconds(project: Path, text: str, seconds: float) -> None:
    spec = load_one(project, autoscaling={"upscale_stabilization_period": text})
    assert spec.autoscaling.upscale_stabilization_period == seconds
    assert ApiSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(("value", "cores"), [("200m", 0.2), (1, 1.0), (0.5, 0.5), ("2", 2.0), ("1e-1", 0.1)])
def test_cpu_becomes_cores(project: Path, value: object, cores: float) -> None:
    assert load_one(project, compute={"cpu": value}).compute.cpu == cores


@pytest.mark.parametrize(
    ("value", "size"),
    [
        *(("200Mi", 200 * 2**20), ("1Gi", 2**30), ("1.5Gi", 1610612736), (2**30, 2**30)),
        *(("4G", 4 * 10**9), ("129e6", 129 * 10**6), ("20971520.5", 20971521)),
    ],
)
def test_memory_becomes_bytes(project: Path, value: object, size: int) -> None:
    assert load_one(project, compute={"mem": value}).compute.mem == size


@pytest.mark.parametrize(("value", "endpoint"), [("cats", "/cats"), ("/a/b.c/", "/a/b.c"), ("/", "/")])
def test_an_endpoint_becomes_a_path(project: Path, value: str, endpoint: str) -> None:
    assert load_one(project, networking={"endpoint": value}).networking.endpoint == endpoint


BAD_VALUES = [
    ("predictor.type", "onnx", "'onnx' is not one of python, tensorflow"),
    ("predictor.type", ["python"], "a list is not one of python, tensorflow"),
    ("kind", "BatchAPI", "'BatchAPI' is not one of RealtimeAPI"),
    ("name", "Cats", "'Cats' is not a name"),
    ("name", "1cat", "'1cat' is not a name"),
    ("name", "cat-", "'cat-' is not a name"),
    ("name", "c" * 43, "at most 42 characters"),
    ("name", 5, "5 is not a name"),
    ("predictor.path", 7, "7 is not text"),
    ("predictor.path", "", "'' is empty"),
    ("predictor.model_path", "gs://bucket/m", "'gs://bucket/m' is neither a folder nor s3://bucket/prefix"),
    ("predictor.model_path", "s3://bucket", "'s3://bucket' is neither a folder nor s3://bucket/prefix"),
    ("predictor.processes_per_replica", 0, "0 is not a whole number from 1 to 100"),
    ("predictor.processes_per_replica", 101, "101 is not a whole number from 1 to 100"),
    ("predictor.threads_per_process", 0, "0 is not a whole number of at least 1"),
    ("predictor.threads_per_process", "2", "'2' is not a whole number"),
    ("predictor.threads_per_process", True, "True is not a whole number"),
    ("predictor.threads_per_process", 1.5, "1.5 is not a whole number"),
    ("predictor.config", ["a"], "a list is not a mapping"),
    ("predictor.env", "A=1", "'A=1' is not a mapping"),
    ("predictor.models", "m", "'m' is not a mapping (allowed: dir, paths, signature_key, cache_size, disk_cache_size)"),
    ("networking", 8888, "8888 is not a mapping (allowed: endpoint, local_port, api_gateway)"),
    ("networking.local_port", 0, "0 is not a whole number from 1 to 65535"),
    ("networking.local_port", 65536, "65536 is not a whole number from 1 to 65535"),
    ("networking.api_gateway", "private", "'private' is not one of public, none"),
    ("networking.endpoint", "a b", "'a b' is not a path"),
    ("networking.endpoint", "a//b", "'a//b' is not a path"),
    ("compute.cpu", "2 cores", "'2 cores' is not a number of cores: write 200m, 0.5 or 2"),
    ("compute.cpu", 0, "0 is less than 20m"),
    ("compute.cpu", -1, "-1 is not a number of cores"),
    ("compute.cpu", True, "True is not a number of cores"),
    ("compute.cpu", float("nan"), "nan is not a number of cores"),
    ("compute.gpu", -1, "-1 is not a whole number of at least 0"),
    ("compute.inf", 0.5, "0.5 is not a whole number of at least 0"),
    ("compute.mem", "4 GB", "'4 GB' is not an amount of memory: write 200Mi, 1Gi or 4G"),
    ("compute.mem", "1Mi", "'1Mi' is less than 20Mi"),
    ("compute.mem", "1e999999999", "is not an amount of memory"),
    ("monitoring.model_type", "ranking", "'ranking' is not one of classification, regression"),
    ("autoscaling.max_replica_concurrency", 0, "0 is not a whole number from 1 to 30000"),
    ("autoscaling.target_replica_concurrency", 0, "0 is not a number above 0"),
    ("autoscaling.target_replica_concurrency", float("inf"), "inf is not a number above 0"),
    ("autoscaling.window", 60, "60 is not a duration: write a number and a unit, such as 100ms"),
    ("autoscaling.window", "1 minute", "'1 minute' is not a duration"),
    ("autoscaling.max_downscale_factor", 1, "1 is not a number from 0 to below 1"),
    ("autoscaling.max_upscale_factor", 1, "1 is not a number above 1"),
    ("autoscaling.downscale_tolerance", -0.1, "-0.1 is not a number from 0 to below 1"),
    ("autoscaling.upscale_tolerance", "5%", "'5%' is not a number of at least 0"),
    ("update_strategy.max_surge", "a quarter", "'a quarter' is neither a number of replicas nor a percentage"),
    ("update_strategy.max_unavailable", "101%", "'101%' is neither a number of replicas nor a percentage"),
    ("update_strategy.max_unavailable", -1, "-1 is neither a number of replicas nor a percentage"),
]


@pytest.mark.parametrize(("field", "value", "sentence"), BAD_VALUES)
def test_a_wrong_value_is_refused_with_its_field_and_what_may_stand_there(
    project: Path, field: str, value: object, sentence: str
) -> None:
    section, _, name = field.rpartition(".")
    fields = {section: {name: value}} if section else {name: value}
    message = refusal(project, **fields)
    [line] = [line for line in message.splitlines() if f": {field}: " in line]
    assert sentence in line


def test_a_wrong_environment_value_names_its_variable(project: Path) -> None:
    message = refusal(project, predictor={"env": {"PORT": 80}})
    assert message == "cortex.yaml:8: predictor.env.PORT: 80 is not text: write it in quotes"


def test_a_long_wrong_value_is_cut_short(project: Path) -> None:
    assert len(refusal(project, predictor={"type": "x" * 5000})) < 200


def test_fields_that_do_nothing_on_this_machine_are_said(project: Path) -> None:
    single, several, _, own = load(project, EVERY_FIELD.read_text())
    notes = local_notes(single) + local_notes(several)
    for field in (
        *("predictor.image", "predictor.tensorflow_serving_image", "predictor.models.cache_size", "monitoring"),
        *("predictor.models.disk_cache_size", "networking.api_gateway", "update_strategy.max_surge"),
        *("update_strategy.max_unavailable", "autoscaling.min_replicas", "autoscaling.max_replicas"),
        *("autoscaling.init_replicas", "autoscaling.target_replica_concurrency", "autoscaling.window"),
        *("autoscaling.downscale_stabilization_period", "autoscaling.upscale_stabilization_period"),
        *("autoscaling.max_downscale_factor", "autoscaling.max_upscale_factor"),
        *("autoscaling.downscale_tolerance", "autoscaling.upscale_tolerance"),
    ):
        assert any(note.startswith(f"{field} has no effect here: ") for note in notes), field
    honored = (
        "model_path",
        "max_batch_size",
        "threads",
        "config",
        "env",
        "local_port",
        "max_replica_concurrency",
        "gpu",
    )
    assert not [note for note in notes if any(note.split()[0].endswith(field) for field in honored)]
    assert local_notes(own) == []
    unused = load_one(project, predictor={"type": "python"})
    assert [note.split()[0] for note in local_notes(unused)] == ["predictor.model_path"]


def test_a_damaged_spec_is_read_or_refused_with_its_file_and_line(project: Path) -> None:
    text = EVERY_FIELD.read_text()
    chance = random.Random(20)
    refused = 0
    for _ in range(300):
        lines = text.splitlines()
        at = chance.randrange(len(lines))
        damage = chance.choice(["drop", "twice", "indent", "value", "letter"])
        if damage == "drop":
            del lines[at]
        elif damage == "twice":
            lines.insert(at, lines[at])
        elif damage == "indent":
            lines[at] = " " * chance.randrange(1, 4) + lines[at]
        elif damage == "value":
            lines[at] = (
                lines[at].split(":")[0] + ": " + chance.choice(["[]", "{}", "-1", "yes", "!x y", "&a [*a]", "~"])
            )
        else:
            lines[at] = lines[at].replace(chance.choice("aeiost:"), chance.choice("xyz{[*&"), 1)
        try:
            specs = load(project, "\n".join(lines))
        except UsageError as error:
            refused += 1
            for line in str(error).splitlines():
                assert line.startswith(f"{project}/cortex.yaml:"), line
        else:
            assert specs
    assert refused > 150
