from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.conftest import REPOSITORY
from tests.cortex.manifests.exporting import IMAGE, every_field, export, refusal, write_spec
from visionserve.cortex.cli import main

KINDS = ("kserve", "rayservice")


@pytest.mark.parametrize("kind", KINDS)
def test_each_api_of_a_file_is_exported_or_the_one_that_is_named(tmp_path: Path, kind: str) -> None:
    spec = every_field(tmp_path)
    names = ["every-field", "several-models", "folder-of-models", "own-model"]
    exported = export(spec, kind, "--models-in-image")
    assert [each["metadata"]["name"] for each in exported.documents if each["kind"] != "ConfigMap"] == names
    one = export(spec, kind, "--name", "own-model")
    assert [each["metadata"]["labels"]["app.kubernetes.io/name"] for each in one.documents] == ["own-model"] * 2
    # A pod serves its own API, and no other of the file.
    text = one.one("ConfigMap")["data"][spec.name]
    assert [api["name"] for api in yaml.safe_load(text)] == ["own-model"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_each_time_and_names_nothing_of_this_machine(tmp_path: Path, kind: str) -> None:
    command = ["export-manifest", str(every_field(tmp_path)), "--kind", kind, "--image", IMAGE, "--models-in-image"]
    first, second = CliRunner().invoke(main, command), CliRunner().invoke(main, command)
    assert first.stdout == second.stdout
    assert str(tmp_path) not in first.stdout
    assert str(REPOSITORY) not in first.stdout
    assert "&id" not in first.stdout


def test_it_goes_to_a_file(tmp_path: Path) -> None:
    spec, output = write_spec(tmp_path / "project"), tmp_path / "cats.yaml"
    command = ["export-manifest", str(spec), "--kind", "kserve", "--image", IMAGE]
    shown = CliRunner().invoke(main, command).stdout
    done = CliRunner().invoke(main, [*command, "-o", str(output)])
    assert (done.exit_code, done.stdout) == (0, f"wrote {output}: kubectl apply -f {output}\n")
    assert output.read_text() == shown
    assert f"{spec}/no cannot be written" in refusal(spec, "-o", f"{spec}/no")


def test_a_folder_of_this_machine_is_refused_with_the_ways_to_bring_it(tmp_path: Path) -> None:
    said = refusal(REPOSITORY / "cortex_cpu.yaml")
    assert "models/resnet50 in cortex_cpu.yaml is a folder of this machine" in said
    for way in ("visionserve publish", "--models-claim", "--models-in-image"):
        assert way in said
    models = {"paths": [{"name": "a", "model_path": "one/net"}, {"name": "b", "model_path": "two/net"}]}
    twins = write_spec(tmp_path, predictor={"model_path": None, "models": models})
    assert "one/net and two/net would both be /mnt/models/net" in refusal(twins, "--models-in-image")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--name", "dogs"], "has no API dogs: it has cats"),
        (["--models-claim", "a", "--models-in-image"], "two places of the models"),
        (["--namespace", "Vision"], "'Vision' is not a name in Kubernetes"),
        (["--env-from-secret", "a_b"], "'a_b' is not a name in Kubernetes"),
        (["--service-account", "-a"], "'-a' is not a name in Kubernetes"),
        (["--image", "two words"], "'two words' is not the name of an image"),
        (["--kind", "knative"], "'knative' is not one of"),
    ],
)
def test_a_wrong_option_is_refused(tmp_path: Path, options: list[str], said: str) -> None:
    assert said in refusal(write_spec(tmp_path), *options)


def test_a_wrong_spec_is_refused_with_its_line(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, compute={"cpus": 1})
    assert "cpus is not a field of compute" in refusal(spec)


def test_an_image_and_a_kind_are_needed(tmp_path: Path) -> None:
    spec: Any = str(write_spec(tmp_path))
    for command, missing in [(["--kind", "kserve"], "--image"), (["--image", IMAGE], "--kind")]:
        done = CliRunner().invoke(main, ["export-manifest", spec, *command])
        assert done.exit_code == 2
        assert missing in done.stderr
