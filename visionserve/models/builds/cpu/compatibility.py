"""What a SavedModel needs of the TensorFlow that loads it."""

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from visionserve.errors import ModelError
from visionserve.models.builds.graph import functions_of, nodes_of, read_saved_model

# The oldest that Inferentia's compiler runs in, and that of the TensorFlow Serving of Cortex 0.18 to 0.24. What both
# know is in every later one: TensorFlow keeps its operations (tensorflow.org/guide/versions).
VERSIONS = ("1.15", "2.3")


@cache
def operations(version: str) -> dict[str, list[str]]:
    """Name -> its attributes' names, of all operations of one of VERSIONS (tests/models/write_operations.py)."""
    table = files("visionserve.models.builds.cpu") / "operations" / f"{version}.json"
    return json.loads(table.read_text(encoding="utf-8"))


def check_loadable_by_old_tensorflow(folder: Path) -> None:
    """Raises ModelError naming each operation and attribute in the SavedModel that one of VERSIONS does not have."""
    saved_model = read_saved_model(folder)
    for version in VERSIONS:
        unknown = sorted(set(_unknown(saved_model, operations(version))))
        if unknown:
            raise ModelError(
                f"the exported model cannot be loaded by TensorFlow {version}, which has no {', no '.join(unknown)}, "
                f"so it was discarded"
            )


def _unknown(saved_model: Any, known: dict[str, list[str]]) -> Iterator[str]:
    own = {function.signature.name for function in functions_of(saved_model)}
    for node in nodes_of(saved_model):
        if node.op in own:
            continue
        if node.op not in known:
            yield f"operation {node.op}"
            continue
        for attribute in node.attr:
            # Those with an underscore are hints that any TensorFlow passes over. One at its default is not written.
            if not attribute.startswith("_") and attribute not in known[node.op]:
                yield f"attribute {attribute} of {node.op}"
