from dataclasses import dataclass, field
from typing import Any

from visionserve.cortex.spec.yaml_lines import FieldPath

OLDER_NAMES: dict[FieldPath, FieldPath] = {
    ("endpoint",): ("networking", "endpoint"),
    ("tracker",): ("monitoring",),
    ("predictor", "model"): ("predictor", "model_path"),
    ("predictor", "tf_serve_image"): ("predictor", "tensorflow_serving_image"),
    ("compute", "accelerator"): ("compute", "inf"),
    ("autoscaling", "workers_per_replica"): ("predictor", "processes_per_replica"),
    ("autoscaling", "threads_per_worker"): ("predictor", "threads_per_process"),
}
MODELS: FieldPath = ("predictor", "models")


def dotted(path: FieldPath) -> str:
    """A field path as a person writes it: predictor.models.paths[0].name."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


@dataclass
class WrittenApi:
    """One API as its file has it: fields, the line of each (() is the API itself), and the older names it used."""

    fields: dict[str, Any]
    lines: dict[FieldPath, int]
    older: dict[FieldPath, FieldPath] = field(default_factory=dict)

    def name_of(self, path: FieldPath) -> str:
        """The field's name as its file has it, in words for the API itself."""
        for current, older in self.older.items():
            if path[: len(current)] == current:
                path = older + path[len(current) :]
                break
        return dotted(path) or "the API"

    def line_of(self, path: FieldPath) -> int:
        """The line of the field, or of the nearest field around it that is there."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def use_current_names(api: WrittenApi) -> list[tuple[FieldPath, str]]:
    """Moves what stands under older names to today's, in place; gives the fields that stand under both."""
    twice = []
    for older, current in OLDER_NAMES.items():
        holder = _mapping(api.fields, older[:-1])
        if holder is None or older[-1] not in holder:
            continue
        target = _mapping(api.fields, current[:-1], create=True)
        if target is None:
            del holder[older[-1]]
            continue
        if current[-1] in target:
            twice.append((older, f"is the older name of {dotted(current)}, which is there too: keep only that"))
            del holder[older[-1]]
            continue
        target[str(current[-1])] = holder.pop(older[-1])
        _move_lines(api, older, current)
    predictor = _mapping(api.fields, MODELS[:1])
    if predictor is not None and isinstance(predictor.get("models"), list):
        predictor["models"] = {"paths": predictor["models"]}
        _move_lines(api, MODELS, (*MODELS, "paths"))
    return twice


def _mapping(fields: dict[str, Any], path: FieldPath, create: bool = False) -> dict[Any, Any] | None:
    inner: Any = fields
    for part in path:
        if create and inner.get(part) is None:
            inner[part] = {}
        inner = inner.get(part)
        if not isinstance(inner, dict):
            return None
    return inner


def _move_lines(api: WrittenApi, older: FieldPath, current: FieldPath) -> None:
    line = api.lines[older]
    for path in [path for path in api.lines if path[: len(older)] == older]:
        api.lines[current + path[len(older) :]] = api.lines.pop(path)
    for depth in range(1, len(current)):
        api.lines.setdefault(current[:depth], line)
    api.older[current] = older
