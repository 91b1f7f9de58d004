import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from visionserve.cortex.spec.aliases import WrittenApi, use_current_names
from visionserve.cortex.spec.api import ApiFields, ApiSpec, section_of
from visionserve.cortex.spec.problems import field_problems, shown
from visionserve.cortex.spec.rules import broken_rules
from visionserve.cortex.spec.yaml_lines import Problem, YamlDocument, read_yaml
from visionserve.errors import UsageError
from visionserve.log_lines import escaped

LARGEST_FILE = 2**20


def load_specs(path: Path) -> list[ApiSpec]:
    """The APIs of a Cortex spec file: a YAML list of them, or one mapping.

    Raises UsageError with one line `file:line: field: what is wrong` for each problem of the file.
    """
    document = read_yaml(_text(path))
    specs: list[ApiSpec] = []
    if not document.problems:
        for api in _apis(path, document):
            spec = _spec(api, path, document.problems)
            if spec is None:
                continue
            if any(other.name == spec.name for other in specs):
                sentence = f"name: {spec.name!r} is the name of another API in this file too: choose another"
                document.problems.append(Problem(api.line_of(("name",)), sentence))
            specs.append(spec)
    if document.problems:
        problems = sorted(document.problems, key=lambda problem: problem.line)
        raise UsageError("\n".join(f"{path}:{problem.line}: {escaped(problem.sentence)}" for problem in problems))
    return specs


def _text(path: Path) -> str:
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name the API spec in it, such as {path / 'cortex_cpu.yaml'}.")
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise UsageError(f"{path} is not there: name an API spec, such as cortex_cpu.yaml.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > LARGEST_FILE:
        raise UsageError(f"{path} is larger than 1 MiB, so it is not an API spec.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: this is not UTF-8 text, so it is not an API spec.") from None
    if not text.strip():
        raise UsageError(f"{path} is empty: it needs a list of APIs, each with name, kind and predictor.")
    return text


def _apis(path: Path, document: YamlDocument) -> list[WrittenApi]:
    value = document.value
    if isinstance(value, dict):
        return [WrittenApi(value, document.lines)]
    if value is None or value == []:
        raise UsageError(f"{path} lists no API: it needs at least one, with name, kind and predictor.")
    if not isinstance(value, list):
        raise UsageError(f"{path}:{document.lines[()]}: {shown(value)} is not a list of APIs.")
    apis = []
    for index, item in enumerate(value):
        lines = {where[1:]: line for where, line in document.lines.items() if where[:1] == (index,)}
        if isinstance(item, dict):
            apis.append(WrittenApi(item, lines))
        else:
            document.problems.append(Problem(lines[()], f"{shown(item)} is not a mapping of an API's fields"))
    return apis


def _spec(api: WrittenApi, path: Path, problems: list[Problem]) -> ApiSpec | None:
    for where, sentence in use_current_names(api):
        problems.append(Problem(api.line_of(where), f"{api.name_of(where)} {sentence}"))
    try:
        fields = ApiFields.model_validate(api.fields)
    except ValidationError as error:
        problems += field_problems(api, error)
        return None
    file = Path(os.path.abspath(path))
    for where, sentence in broken_rules(fields, file.parent):
        problems.append(Problem(api.line_of(where), f"{api.name_of(where)}: {sentence}"))
    written = {name: getattr(fields, name) for name in ApiFields.model_fields}
    return ApiSpec(**written, project=file.parent, file=file, explicit=frozenset(_explicit(api.fields)))


def _explicit(fields: dict[str, Any], parents: tuple[str, ...] = ()) -> list[str]:
    names = []
    for name, value in fields.items():
        if value is not None:
            names.append(".".join((*parents, name)))
        if isinstance(value, dict) and section_of((*parents, name)):
            names += _explicit(value, (*parents, name))
    return names
