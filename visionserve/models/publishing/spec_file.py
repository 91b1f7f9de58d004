from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from visionserve.errors import UsageError

# `model` is what Cortex called it before 0.20.
MODEL_FIELDS = ("model_path", "model")


@dataclass(frozen=True)
class ModelField:
    """What a spec says of one model. `start` and `end`: where its text stands in the file, in characters."""

    location: str
    start: int
    end: int
    for_inferentia: bool


@dataclass(frozen=True)
class SpecFile:
    path: Path
    text: str
    models: tuple[ModelField, ...]

    def with_locations(self, locations: list[str]) -> str:
        """The text with other locations, one for each of `models`, and every other character as it was.

        Raises UsageError where one is written so that this would not be all of it: behind a YAML alias, for instance.
        """
        text = self.text
        for model, location in sorted(zip(self.models, locations, strict=True), key=lambda pair: -pair[0].start):
            text = text[: model.start] + location + text[model.end :]
        try:
            changed = [model.location for model in _models(yaml.compose(text, Loader=yaml.SafeLoader))]
        except yaml.YAMLError:
            changed = []
        if changed != locations:
            raise UsageError(
                f"{self.path} writes a model_path in a way that cannot be replaced: write it as plain text"
            )
        return text


def read_spec(path: Path) -> SpecFile:
    """Raises UsageError for what is not a Cortex spec with the location of a model in it."""
    try:
        # Bytes, as reading text would change line ends.
        text = path.read_bytes().decode()
        models = _models(yaml.compose(text, Loader=yaml.SafeLoader))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text, so it is not a Cortex API spec") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UsageError(f"{where}: {getattr(error, 'problem', None) or 'this'}, so it is not YAML") from error
    if not models:
        raise UsageError(f"{path} has no predictor.model_path, so there is nothing of it to publish")
    return SpecFile(path, text, models)


def _models(document: yaml.Node | None) -> tuple[ModelField, ...]:
    apis = document.value if isinstance(document, yaml.SequenceNode) else [document]
    found = {model.start: model for api in apis for model in _models_of_api(api)}
    return tuple(found.values())


def _models_of_api(api: yaml.Node | None) -> Iterator[ModelField]:
    for_inferentia = _scalar(_child(_child(api, "compute"), "inf")) not in (None, "0")
    predictor = _child(api, "predictor")
    paths = _child(_child(predictor, "models"), "paths")
    holders = [predictor, *(paths.value if isinstance(paths, yaml.SequenceNode) else [])]
    for holder in holders:
        for name in MODEL_FIELDS:
            node = _child(holder, name)
            if location := _scalar(node):
                assert node is not None
                yield ModelField(location, node.start_mark.index, node.end_mark.index, for_inferentia)


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)


def _scalar(node: yaml.Node | None) -> str | None:
    return node.value if isinstance(node, yaml.ScalarNode) else None
