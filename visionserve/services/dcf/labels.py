import json
import re
from pathlib import Path
from typing import Any

import visionserve.vision
from visionserve.errors import UsageError

# mscoco_label_map.pbtxt of TensorFlow's models: COCO's 80 categories by their numbers, 1 to 90.
COCO_CLASSES = Path(visionserve.vision.__path__[0]) / "coco_classes.json"

_QUOTED = r"\"[^\"]*\"|'[^']*'"
_ITEM = re.compile(rf"\bitem\s*\{{((?:[^}}\"']|{_QUOTED})*)\}}")
_FIELD = re.compile(rf"\b(id|name|display_name)\s*:\s*({_QUOTED}|\d+)")


def load_labels(path: Path) -> dict[int, str]:
    """The names of classes by their numbers, from one of three forms of file:

    a label map of TensorFlow's detection models (item {id: 1 name: "person"}), where display_name goes before name;
    a JSON list, whose first name is class 1; JSON {"1": "person", ...}.
    Raises UsageError for a file that cannot be read or holds none of them.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The labels in {path} cannot be read: {error}.") from error
    try:
        names = _of_json(json.loads(text))
    except ValueError:
        names = _of_label_map(text)
    if not names:
        raise UsageError(
            f'{path} names no classes: it must be a label map with item {{id: 1 name: "person"}}, a JSON list of names '
            f'or {{"1": "person"}}.'
        )
    return names


def _of_json(content: Any) -> dict[int, str]:
    if isinstance(content, list):
        content = dict(enumerate(content, start=1))
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        return {}
    return {int(number): name for number, name in content.items()}


def _of_label_map(text: str) -> dict[int, str]:
    names = {}
    for item in _ITEM.findall(text):
        fields = {name: value.strip("\"'") for name, value in _FIELD.findall(item)}
        name = fields.get("display_name") or fields.get("name")
        if name and fields.get("id", "").isdigit():
            names[int(fields["id"])] = name
    return names
