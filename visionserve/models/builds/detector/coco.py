import json
from importlib.resources import files


def coco_classes() -> dict[int, str]:
    """COCO's 80 category ids, 1..90 and rising, and their names (mscoco_label_map.pbtxt of TensorFlow's models).

    Networks of 80 classes number them 0..79 in the same order.
    """
    text = (files("visionserve.vision") / "coco_classes.json").read_text(encoding="utf-8")
    return {int(number): name for number, name in json.loads(text).items()}
