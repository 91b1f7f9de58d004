"""The `config` of an API spec's predictor, checked once."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from visionserve.vision.addresses import parse
from visionserve.vision.decoding import MAX_PIXELS
from visionserve.vision.errors import UrlError
from visionserve.vision.labels import IMAGENET_CLASSES


class Settings(NamedTuple):
    """`input_shape` is (height, width) in pixels; `timeout` in seconds, for one URL; `allow_urls`: see UrlPolicy."""

    classes: str = IMAGENET_CLASSES
    input_shape: Tuple[int, int] = (224, 224)
    input_key: str = "input"
    output_key: str = "output"
    max_images: int = 64
    max_pixels: int = MAX_PIXELS
    timeout: float = 10.0
    allow_urls: Union[bool, List[str], None] = None


def read_settings(config: Optional[Dict[str, Any]]) -> Settings:
    """ValueError, one sentence naming the field, its value and what it may be, for a config that is wrong."""
    if config is None:
        return Settings()
    if not isinstance(config, dict):
        raise ValueError("config: must be a mapping, not {!r}".format(config))
    for name, value in config.items():
        if name not in Settings._fields:
            raise ValueError("config.{}: no such setting; there are {}".format(name, ", ".join(Settings._fields)))
        expected = _wrong(name, value)
        if expected:
            raise ValueError("config.{}: must be {}, not {!r}".format(name, expected, value))
    given = dict(config)
    if "input_shape" in given:
        given["input_shape"] = (given["input_shape"][0], given["input_shape"][1])
    return Settings(**given)


def _wrong(name: str, value: Any) -> str:
    """What the field must be, or nothing when it is that."""
    if name in ("classes", "input_key", "output_key"):
        return "" if isinstance(value, str) and value else "a string"
    if name in ("max_images", "max_pixels"):
        return "" if _is_count(value) else "an integer of at least 1"
    if name == "timeout":
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "" if is_number and 0 < value <= 3600 else "a number of seconds above 0, at most 3600"
    if name == "input_shape":
        is_pair = isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_count, value))
        return "" if is_pair else "[height, width] in pixels"
    if value is None or isinstance(value, bool):
        return ""
    is_list = isinstance(value, (list, tuple)) and all(map(_is_url, value))
    return "" if is_list else "false or a list of URL prefixes such as http://10.0.0.7:9000/images/"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_url(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(parse(value))
    except UrlError:
        return False
