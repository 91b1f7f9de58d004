from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

FieldPath = tuple[str | int, ...]

MOST_VALUES = 100_000
DEEPEST = 50
_CORE = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_CORE + name for name in ("str", "int", "float", "bool", "null", "timestamp")}


@dataclass(frozen=True)
class Problem:
    line: int
    sentence: str


@dataclass
class YamlDocument:
    """value: lists, dicts with text keys, and scalars; lines: the line, from 1, on which each of them starts."""

    value: Any = None
    lines: dict[FieldPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_yaml(text: str) -> YamlDocument:
    """Reads one YAML document without tags, merge keys and duplicate keys; what is wrong stands in its `problems`."""
    reader = _Reader()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            reader.document.value = reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        sentence = ", ".join(part for part in (error.context, error.problem) if part)
        reader.problem(mark.line + 1 if mark else 1, f"this is not YAML: {sentence}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reader.problem(line, f"the character {chr(error.character)!r} is not allowed in YAML")
    except RecursionError:
        reader.problem(1, f"values are nested more than {DEEPEST} deep")
    return reader.document


class _Reader:
    def __init__(self) -> None:
        self.document = YamlDocument()
        self._values = 0

    def problem(self, line: int, sentence: str) -> None:
        self.document.problems.append(Problem(line, sentence))

    def read(self, node: yaml.Node, path: FieldPath) -> Any:
        line = node.start_mark.line + 1
        self.document.lines.setdefault(path, line)
        self._values += 1
        # An alias stands for its whole anchor: a few lines of them can mean billions of values, or no end.
        if len(path) > DEEPEST or self._values > MOST_VALUES:
            limit = f"nested more than {DEEPEST} deep" if len(path) > DEEPEST else f"more than {MOST_VALUES}"
            raise yaml.MarkedYAMLError(problem=f"its values are {limit}", problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode) and node.tag == _CORE + "map":
            return {key: self.read(value, (*path, key)) for key, value in self._entries(node, path)}
        if isinstance(node, yaml.SequenceNode) and node.tag == _CORE + "seq":
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _PLAIN_TAGS:
            return self._scalar(node)
        shown = node.tag.replace(_CORE, "!!")
        self.problem(line, f"the YAML tag {shown} is not allowed: write a plain value")
        return None

    def _entries(self, node: yaml.MappingNode, path: FieldPath) -> Iterator[tuple[str, yaml.Node]]:
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _CORE + "merge":
                self.problem(line, "merge keys (<<) are not read here: write the fields out")
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _CORE + "str":
                shown = repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                self.problem(line, f"the key {shown} is not text: write it in quotes")
                continue
            key = key_node.value
            if key in first_lines:
                self.problem(line, f"{key!r} is written twice, first on line {first_lines[key]}: keep one of them")
                continue
            first_lines[key] = line
            where = (*path, key)
            self.document.lines[where] = line
            yield key, value_node

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        # Cortex reads a date as text.
        if node.tag == _CORE + "timestamp":
            return node.value
        try:
            return yaml.constructor.SafeConstructor().construct_object(node)
        except (ValueError, KeyError):
            kind = node.tag.removeprefix(_CORE)
            self.problem(node.start_mark.line + 1, f"{node.value!r} is not a value of the YAML type {kind}")
            return None
