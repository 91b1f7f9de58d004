"""The schemas that KServe and KubeRay publish, and what an object has against them."""

import ast
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate

KUBERNETES = "1.31"
SCALARS = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object}


class KServeModels:
    """The models of KServe's Python SDK, which are generated from the Go types that its CRDs are generated from.

    They are read and not imported: the SDK wants other versions of protobuf and psutil than this project.
    """

    def __init__(self, wheel: Path) -> None:
        self._fields: dict[str, dict[str, str]] = {}
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if re.fullmatch(r"kserve/models/v1\w+\.py", name):
                    self._read(archive.read(name).decode())

    def _read(self, source: str) -> None:
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                tables = {
                    statement.targets[0].id: ast.literal_eval(statement.value)
                    for statement in node.body
                    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
                }
                names = tables["attribute_map"]
                self._fields[node.name] = {names[field]: kind for field, kind in tables["openapi_types"].items()}

    def problems(self, value: Any, kind: str, path: str = "") -> Iterator[str]:
        """kind: as the SDK writes it; Kubernetes' own types are left to its own schemas."""
        inner = re.fullmatch(r"list\[(.*)\]|dict\(str, (.*)\)", kind)
        if inner and inner[1]:
            if not isinstance(value, list):
                yield f"{path} is not a list"
                return
            for index, item in enumerate(value):
                yield from self.problems(item, inner[1], f"{path}[{index}]")
        elif inner:
            for name, item in value.items():
                yield from self.problems(item, inner[2], f"{path}.{name}")
        elif kind in SCALARS:
            if not isinstance(value, SCALARS[kind]) or (isinstance(value, bool) and kind in ("int", "float")):
                yield f"{path} is not of the type {kind}"
        elif kind in self._fields:
            fields = self._fields[kind]
            for name, item in value.items():
                if name in fields:
                    yield from self.problems(item, fields[name], f"{path}.{name}".lstrip("."))
                else:
                    yield f"{path}.{name} is no field of {kind}".lstrip(".")

    def fields(self, kind: str) -> set[str]:
        return set(self._fields[kind])


def kubernetes_takes(document: dict[str, Any]) -> None:
    """Raises kubernetes_validate.ValidationError for an unknown field, a wrong type or a missing one."""
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def pod(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
