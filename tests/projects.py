"""Small projects that a user might deploy, written into a folder by the test that needs one."""

import json
from pathlib import Path
from typing import Any

import yaml


def write_project(folder: Path, source: str, **fields: Any) -> Path:
    """A spec with a predictor of `source` in `folder`; fields are merged into the API. Returns the spec's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictor.py").write_text(source)
    api: dict[str, Any] = {
        "name": "small",
        "kind": "RealtimeAPI",
        "predictor": {"type": "python", "path": "predictor.py"},
    }
    for section, values in fields.items():
        api[section] = {**api.get(section, {}), **values} if isinstance(values, dict) else values
    spec = folder / "cortex.yaml"
    spec.write_text(yaml.safe_dump([api]))
    return spec


ECHO = """
class PythonPredictor:
    def __init__(self, config):
        self.config = config

    def predict(self, payload, query_params, headers):
        return {"payload": payload, "query": dict(query_params), "tag": headers.get("x-tag"), "config": self.config}
"""

VERSIONED = """
import time

class PythonPredictor:
    def __init__(self, config):
        self.version = config["version"]

    def predict(self, payload):
        time.sleep(0.02)
        return {"version": self.version}
"""


PATIENT = """
from visionserve.inference import client

client.PATIENCE = 60.0
"""


def with_patience(spec: Path) -> Path:
    """The spec, whose workers now wait for a model server as long as a busy machine takes to start another one."""
    with spec.with_name("predictor.py").open("a") as file:
        file.write(PATIENT)
    return spec


def repository_spec(folder: Path, repository: Path, model: Path, **changes: Any) -> Path:
    """The repository's CPU spec in a folder of the test, with fields of `predictor`, `compute`, ... changed."""
    api = yaml.safe_load((repository / "cortex_cpu.yaml").read_text())[0]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictor.py").write_text((repository / "predictor.py").read_text())
    labels = json.loads((repository / "visionserve/vision/imagenet_classes.json").read_text())
    (folder / "classes.json").write_text(json.dumps(labels))
    api["predictor"]["model_path"] = str(model)
    api["predictor"]["config"]["classes"] = "classes.json"
    for section, values in changes.items():
        api[section] = {**api.get(section, {}), **values} if isinstance(values, dict) else values
    spec = folder / "cortex.yaml"
    spec.write_text(yaml.safe_dump([api]))
    return spec
