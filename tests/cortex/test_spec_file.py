from pathlib import Path

import pytest

from visionserve.cortex.spec.file import load_specs
from visionserve.errors import UsageError

GOOD = """\
- name: cats
  kind: RealtimeAPI
  predictor:
    type: tensorflow
    path: predictor.py
    model_path: models/resnet50
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "predictor.py").write_text("class TensorFlowPredictor: pass\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(text: str | bytes) -> str:
    file = Path("cortex_cpu.yaml")
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UsageError) as caught:
        load_specs(file)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_list_of_apis_and_a_single_mapping_are_both_read(project: Path) -> None:
    Path("two.yaml").write_text(GOOD + GOOD.replace("cats", "dogs"))
    assert [spec.name for spec in load_specs(Path("two.yaml"))] == ["cats", "dogs"]
    Path("one.yaml").write_text(GOOD.replace("- ", "  ", 1))
    [spec] = load_specs(Path("one.yaml"))
    assert (spec.name, spec.project, spec.file) == ("cats", project, project / "one.yaml")


def test_paths_are_relative_to_the_spec_and_not_to_where_the_command_runs(project: Path) -> None:
    folder = project / "apis"
    folder.mkdir()
    (folder / "cortex.yaml").write_text(GOOD)
    with pytest.raises(UsageError, match=r"'predictor\.py' is not there: it is looked for in .*/apis"):
        load_specs(Path("apis/cortex.yaml"))
    (folder / "predictor.py").touch()
    [spec] = load_specs(Path("apis/cortex.yaml"))
    assert spec.project == folder


def test_a_wrong_value_points_at_its_line() -> None:
    assert refusal(GOOD.replace("tensorflow", "tensorfow")) == (
        "cortex_cpu.yaml:4: predictor.type: 'tensorfow' is not one of python, tensorflow"
    )


def test_a_misspelt_field_gets_the_likely_name_and_all_allowed_ones() -> None:
    message = refusal(GOOD + "    procesess_per_replica: 2\n")
    assert message == (
        "cortex_cpu.yaml:7: predictor.procesess_per_replica is not a field of predictor; "
        "did you mean processes_per_replica? (allowed: type, path, model_path, signature_key, models, "
        "server_side_batching, processes_per_replica, threads_per_process, config, python_path, image, "
        "tensorflow_serving_image, env)"
    )


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ("  predictr: {}\n", ":7: predictr is not a field of an API; did you mean predictor?"),
        ("    gpu: 1\n", ":7: predictor.gpu is not a field of predictor; did you mean compute.gpu?"),
        ("  qqq: 1\n", ":7: qqq is not a field of an API (allowed: name, kind, predictor, networking, "),
        ("  project: here\n", ":7: project is not a field of an API"),
        ("  compute:\n    cpus: ~\n", ":8: compute.cpus is not a field of compute; did you mean cpu?"),
        (
            "    server_side_batching:\n      max_batch_size: 1\n      interval: 1s\n",
            ":9: predictor.server_side_batching.interval is not a field of predictor.server_side_batching",
        ),
    ],
)
def test_an_unknown_field_is_refused_wherever_it_stands(extra: str, sentence: str) -> None:
    assert f"cortex_cpu.yaml{sentence}" in refusal(GOOD + extra)


def test_a_missing_field_points_at_the_mapping_it_belongs_in() -> None:
    assert refusal(GOOD.replace("    path: predictor.py\n", "")) == (
        "cortex_cpu.yaml:3: predictor.path is missing: give the Python file of the predictor, relative to the spec"
    )
    assert refusal(GOOD.replace("name: cats\n  ", "")) == (
        "cortex_cpu.yaml:1: name is missing: give what the API is called, such as image-classifier"
    )
    assert refusal("\n- name: cats\n") == "cortex_cpu.yaml:2: predictor is missing: give a mapping with type and path"
    assert refusal(GOOD + "  monitoring:\n    key: label\n") == (
        "cortex_cpu.yaml:7: monitoring.model_type is missing: give classification or regression"
    )


def test_older_names_are_reported_as_they_were_written() -> None:
    text = GOOD.replace("model_path: models/resnet50", "models:\n      - name: a\n      - {name: b, model_path: 5}")
    message = refusal(text + "  autoscaling:\n    workers_per_replica: none\n")
    assert message.splitlines() == [
        "cortex_cpu.yaml:7: predictor.models[0].model_path is missing: give a folder, or s3://bucket/prefix",
        "cortex_cpu.yaml:8: predictor.models[1].model_path: 5 is not text: write it in quotes",
        "cortex_cpu.yaml:10: autoscaling.workers_per_replica: 'none' is not a whole number from 1 to 100",
    ]


def test_all_problems_of_all_apis_come_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace("cats", "Cats") + GOOD.replace("cats", "dogs").replace("predictor.py", "dogs.py") + "- 5\n"
    message = refusal(text + "- name: birds\n  kind: BatchAPI\n  predictor: {type: onnx, path: predictor.py}\n")
    assert [line.split(" ")[0] + line.split(" ")[1] for line in message.splitlines()] == [
        "cortex_cpu.yaml:1:name:",
        "cortex_cpu.yaml:11:predictor.path:",
        "cortex_cpu.yaml:13:5",
        "cortex_cpu.yaml:15:kind:",
        "cortex_cpu.yaml:16:predictor.type:",
    ]


def test_two_apis_of_one_name_are_refused() -> None:
    assert refusal(GOOD + GOOD) == (
        "cortex_cpu.yaml:7: name: 'cats' is the name of another API in this file too: choose another"
    )


def test_a_key_that_is_written_twice_is_refused() -> None:
    assert refusal(GOOD + "    type: python\n") == (
        "cortex_cpu.yaml:7: 'type' is written twice, first on line 4: keep one of them"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD + "  kind: [\n", "8: this is not YAML: while parsing a flow node"),
        (GOOD + "\tcompute:\n", "7: this is not YAML: "),
        (GOOD + "  compute: *other\n", "7: this is not YAML: found undefined alias"),
        (GOOD + "---\n" + GOOD, "7: this is not YAML: expected a single document"),
        (GOOD + "  compute: {a: \x07}\n", "7: the character '\\x07' is not allowed in YAML"),
        (GOOD.encode() + b"  compute: \xff\n", "7: this is not UTF-8 text"),
        (
            GOOD + "    config: !!python/object/apply:os.getcwd []\n",
            "7: the YAML tag !!python/object/apply:os.getcwd is",
        ),
        (GOOD + "    config: !secret x\n", "7: the YAML tag !secret is not allowed: write a plain value"),
        (GOOD + "    config: {a: !!binary aGk=}\n", "7: the YAML tag !!binary is not allowed"),
        (GOOD + "    config: {a: !!int cat}\n", "7: 'cat' is not a value of the YAML type int"),
        (GOOD + "    config:\n      1: a\n", "8: the key '1' is not text: write it in quotes"),
        (GOOD + "    config: {[a]: b}\n", "7: the key a list or mapping is not text"),
        (GOOD + "    config: &c\n      <<: *c\n", "8: merge keys (<<) are not read here"),
        (GOOD + "    config: &c {again: *c}\n", "7: this is not YAML: its values are nested more than 50 deep"),
        (GOOD + "    config: {a: " + "[" * 3000 + "]" * 3000 + "}\n", "1: values are nested more than 50 deep"),
        ("just text\n", "1: 'just text' is not a list of APIs."),
        ("\n- cats\n", "2: 'cats' is not a mapping of an API's fields"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str | bytes, sentence: str) -> None:
    assert refusal(text).startswith(f"cortex_cpu.yaml:{sentence}")


def test_a_few_lines_cannot_stand_for_millions_of_values() -> None:
    layers = "".join(f"      v{n}: &v{n} [{', '.join([f'*v{n - 1}'] * 10)}]\n" for n in range(1, 9))
    message = refusal(GOOD + "    config:\n      v0: &v0 [a, b]\n" + layers)
    assert "its values are more than 100000" in message


def test_an_alias_repeats_what_its_anchor_holds() -> None:
    Path("cortex.yaml").write_text(GOOD + "    config: {a: &shape [224, 224], b: *shape}\n")
    assert load_specs(Path("cortex.yaml"))[0].predictor.config == {"a": [224, 224], "b": [224, 224]}


def test_a_file_with_nothing_in_it_says_what_belongs_there() -> None:
    expected = "it needs a list of APIs, each with name, kind and predictor"
    assert refusal("") == f"cortex_cpu.yaml is empty: {expected}."
    assert refusal(" \n\n").startswith("cortex_cpu.yaml is empty")
    for text in ("# a comment\n", "[]\n", "---\n"):
        assert refusal(text) == ("cortex_cpu.yaml lists no API: it needs at least one, with name, kind and predictor.")


def test_a_file_that_cannot_be_a_spec_is_named(project: Path) -> None:
    with pytest.raises(UsageError, match=r"^nothing\.yaml is not there: name an API spec, such as cortex_cpu\.yaml\.$"):
        load_specs(Path("nothing.yaml"))
    with pytest.raises(UsageError, match="is a folder: name the API spec in it"):
        load_specs(project)
    assert refusal("# " + "x" * 2**20) == "cortex_cpu.yaml is larger than 1 MiB, so it is not an API spec."
