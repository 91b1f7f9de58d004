"""What a client may send -> one batch of pixels."""

import json
from typing import Any, Callable, List, NamedTuple, Sequence, Tuple, Union

import numpy as np

from visionserve.vision.base64_text import from_base64
from visionserve.vision.decoding import MAX_PIXELS
from visionserve.vision.errors import ImageError, PayloadError, UrlError
from visionserve.vision.pixels import to_input

EXPECTED = (
    'send JSON with "img" (base64), "imgs" (a list of them) or "url", or an image as the body or as a multipart file'
)


class Entry(NamedTuple):
    """One image of a request: `name` as in "imgs[3]", `read` gives its encoded bytes."""

    name: str
    read: Callable[[], bytes]


class Request(NamedTuple):
    """`many`: the client sent a list and expects one back."""

    entries: List[Entry]
    many: bool


def read_request(payload: Any, fetch: Callable[[str], bytes], max_images: int) -> Request:
    """`payload` as a Cortex server hands it over: parsed JSON, bytes, or a starlette FormData.

    `fetch` takes a URL and gives its body. PayloadError when it is none of them or has too many images.
    """
    if hasattr(payload, "multi_items"):
        return _form(payload.multi_items(), fetch, max_images)
    if isinstance(payload, (bytes, bytearray, memoryview, str)):
        if not len(payload):
            raise PayloadError("the body is empty: " + EXPECTED)
        text = payload if isinstance(payload, str) else bytes(payload)
        # JSON under another content type: no image starts so.
        if text[:64].lstrip()[:1] in (b"{", "{"):
            payload = _json(text)
        elif not isinstance(text, str):
            return Request([Entry("the body", lambda: text)], many=False)
    if not isinstance(payload, dict):
        raise PayloadError("the payload is {}: {}".format(_kind(payload), EXPECTED))
    return _fields(payload, fetch, max_images)


def to_batch(request: Request, shape: Tuple[int, int] = (224, 224), max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The images of `request` -> uint8 [N, H, W, 3], RGB. PayloadError names the first one that is wrong."""
    batch = np.empty((len(request.entries), shape[0], shape[1], 3), np.uint8)
    for index, entry in enumerate(request.entries):
        try:
            to_input(entry.read(), shape, max_pixels, batch[index])
        except (ImageError, UrlError) as error:
            raise PayloadError("{} {}".format(entry.name, error)) from error
    return batch


def _fields(fields: dict, fetch: Callable[[str], bytes], max_images: int) -> Request:
    given = [name for name in ("img", "imgs", "url") if name in fields]
    if len(given) != 1:
        found = "has {}".format(" and ".join(given)) if given else 'has no "img", "imgs" or "url"'
        raise PayloadError("the payload {}: send one of them".format(found))
    name, value = given[0], fields[given[0]]
    if name == "imgs":
        if not isinstance(value, list):
            raise PayloadError("imgs is {}, not a list of base64 strings".format(_kind(value)))
        _check_count("imgs", value, max_images)
        return Request([_base64("imgs[{}]".format(index), text) for index, text in enumerate(value)], many=True)
    if name == "url":
        if not isinstance(value, str) or not value:
            raise PayloadError("url is {}, not an http:// or https:// URL".format(_kind(value)))
        return Request([Entry("url", lambda: fetch(value))], many=False)
    return Request([_base64("img", value)], many=False)


def _form(items: Sequence[Tuple[str, Any]], fetch: Callable[[str], bytes], max_images: int) -> Request:
    files = [(name, value.file) for name, value in items if hasattr(value, "file")]
    if not files:
        if any(name.lstrip().startswith("{") for name, _ in items):
            raise PayloadError('the JSON came as a form: add the header "Content-Type: application/json"')
        return _fields(dict(items), fetch, max_images)
    _check_count("the form", files, max_images)
    names = [name for name, _ in files]
    entries = []
    for index, (name, file) in enumerate(files):
        label = "{}[{}]".format(name, names[:index].count(name)) if names.count(name) > 1 else name
        entries.append(Entry(label, file.read))
    return Request(entries, many=len(entries) > 1)


def _base64(name: str, text: Any) -> Entry:
    def read() -> bytes:
        if not isinstance(text, str):
            raise ImageError("is {}, not a base64 string".format(_kind(text)))
        return from_base64(text)

    return Entry(name, read)


def _json(text: Union[bytes, str]) -> Any:
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except ValueError as error:
        raise PayloadError("the body is not valid JSON: {}".format(error)) from error
    except RecursionError:
        raise PayloadError("the body is not valid JSON: it is nested too deeply") from None


def _check_count(name: str, images: Sequence[Any], max_images: int) -> None:
    if not images:
        raise PayloadError("{} is an empty list: send at least one image".format(name))
    if len(images) > max_images:
        raise PayloadError("{} has {} images, more than max_images={}".format(name, len(images), max_images))


def _kind(value: Any) -> str:
    """What JSON calls it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string" if value else "an empty string"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    return "a " + type(value).__name__
