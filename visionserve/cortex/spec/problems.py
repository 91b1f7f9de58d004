import difflib
from typing import Any

from pydantic import ValidationError

from visionserve.cortex.spec.aliases import WrittenApi
from visionserve.cortex.spec.api import ApiFields, section_of
from visionserve.cortex.spec.yaml_lines import FieldPath, Problem

LONGEST_VALUE = 60


def shown(value: object) -> str:
    """A value as an error names it, in one short line."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def field_problems(api: WrittenApi, error: ValidationError) -> list[Problem]:
    """One sentence for each field that pydantic refused, in the order of the file."""
    problems = [_problem(api, detail) for detail in error.errors(include_url=False)]
    return sorted(problems, key=lambda problem: problem.line)


def _problem(api: WrittenApi, detail: Any) -> Problem:
    path: FieldPath = detail["loc"]
    name, names = api.name_of(path), tuple(part for part in path if isinstance(part, str))
    kind, value = detail["type"], detail["input"]
    if kind == "missing":
        parent = section_of(names[:-1])
        hint = parent.model_fields[names[-1]].description if parent else None
        return Problem(api.line_of(path[:-1]), f"{name} is missing: give {hint}")
    if kind == "extra_forbidden":
        return Problem(api.line_of(path), _unknown(api, path, names))
    if kind == "value_error":
        return Problem(api.line_of(path), f"{name}: {shown(value)} {detail['ctx']['error']}")
    expected = {"tuple_type": "a list", "string_type": "text"}.get(kind, "a mapping")
    section = section_of(names)
    allowed = f" (allowed: {', '.join(section.model_fields)})" if section and expected == "a mapping" else ""
    # What is written there may be a secret.
    seen = "its value" if names[:2] == ("predictor", "env") and len(names) > 2 else shown(value)
    return Problem(api.line_of(path), f"{name}: {seen} is not {expected}{allowed}")


def _unknown(api: WrittenApi, path: FieldPath, names: tuple[str, ...]) -> str:
    section = section_of(names[:-1]) or ApiFields
    wrong, allowed = names[-1], list(section.model_fields)
    elsewhere = [name for name, model in _sections() if model is not section and wrong in model.model_fields]
    likely = difflib.get_close_matches(wrong, allowed, n=1)
    guess = f"{elsewhere[0]}.{wrong}".removeprefix(".") if elsewhere else (likely[0] if likely else "")
    question = f"; did you mean {guess}?" if guess else ""
    parent = api.name_of(path[:-1]) if len(path) > 1 else "an API"
    return f"{api.name_of(path)} is not a field of {parent}{question} (allowed: {', '.join(allowed)})"


def _sections() -> list[tuple[str, Any]]:
    top = [(name, section_of((name,))) for name in ApiFields.model_fields]
    return [("", ApiFields), *((name, section) for name, section in top if section)]
