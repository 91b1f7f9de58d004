"""The command, and its objects as a cluster would have them."""

import base64
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner

from tests.conftest import REPOSITORY
from visionserve.cortex.cli import main

IMAGE = "registry.example.com/team/visionserve:1"


@dataclass
class Exported:
    documents: list[dict[str, Any]]
    notes: list[str]

    def one(self, kind: str) -> dict[str, Any]:
        [document] = [each for each in self.documents if each["kind"] == kind]
        return document

    @property
    def predictor(self) -> dict[str, Any]:
        """Of the InferenceService."""
        return self.one("InferenceService")["spec"]["predictor"]

    @property
    def container(self) -> dict[str, Any]:
        [container] = self.predictor["containers"]
        return container


def export(spec: Path, kind: str, *options: object) -> Exported:
    done = CliRunner().invoke(
        main, ["export-manifest", str(spec), "--kind", kind, "--image", IMAGE, *map(str, options)]
    )
    assert done.exit_code == 0, done.output
    return Exported(list(yaml.safe_load_all(done.stdout)), done.stderr.splitlines())


def refusal(spec: Path, *options: object) -> str:
    """What the command says of a spec or of options that it does not take."""
    command = ["export-manifest", str(spec), "--kind", "kserve", "--image", IMAGE, *map(str, options)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    return done.stderr


def write_spec(folder: Path, **sections: dict[str, Any]) -> Path:
    """A spec with a tensorflow predictor whose model is in S3; the sections are merged into it."""
    predictor = {"type": "tensorflow", "path": "predictor.py", "model_path": "s3://bucket/models/resnet50"}
    api: dict[str, Any] = {"name": "cats", "kind": "RealtimeAPI", "predictor": predictor}
    for section, fields in sections.items():
        merged = {**api.get(section, {}), **fields}
        api[section] = {name: value for name, value in merged.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictor.py").write_text("class TensorFlowPredictor: pass\n")
    spec = folder / "cortex.yaml"
    spec.write_text(yaml.safe_dump([api]))
    return spec


def every_field(folder: Path) -> Path:
    """The spec that has every field in it, with the files that it names."""
    shutil.copy2(REPOSITORY / "tests/cortex/specs/every_field.yaml", folder / "every_field.yaml")
    (folder / "predictor.py").write_text("class TensorFlowPredictor: pass\n")
    (folder / "src").mkdir()
    (folder / "src" / "helper.py").write_text("LEVEL = 3\n")
    return folder / "every_field.yaml"


def mounted(config_map: dict[str, Any], volume: dict[str, Any], folder: Path) -> Path:
    """The volume of a ConfigMap as the kubelet lays it out: a hidden folder of its own, and links to what is in it."""
    data = folder / "..2026_11_21_18_00_00.000000001"
    assert volume["configMap"]["name"] == config_map["metadata"]["name"]
    for item in volume["configMap"]["items"]:
        file = data / item["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        if item["key"] in config_map["data"]:
            file.write_text(config_map["data"][item["key"]])
        else:
            file.write_bytes(base64.b64decode(config_map["binaryData"][item["key"]]))
    (folder / "..data").symlink_to(data.name)
    for entry in data.iterdir():
        (folder / entry.name).symlink_to(f"..data/{entry.name}")
    return folder
