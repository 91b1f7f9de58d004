import json

from visionserve.services.function.classifier import LONG_NAMES
from visionserve.vision.labels import IMAGENET_CLASSES, load_classes


def test_every_short_label_is_one_of_the_long_name_s_synonyms_at_the_same_place():
    short = [name.replace("_", " ") for name in load_classes(IMAGENET_CLASSES)]
    long = json.loads(LONG_NAMES.read_text())
    assert len(long) == 1000
    assert [label for label, names in zip(short, long, strict=True) if label not in names.split(", ")] == []


def test_the_names_are_imagenet_s():
    long = json.loads(LONG_NAMES.read_text())
    assert long[145] == "king penguin, Aptenodytes patagonica"
    assert long[285] == "Egyptian cat"
    assert long[999] == "toilet tissue, toilet paper, bathroom tissue"
