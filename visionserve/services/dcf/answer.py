import json
import logging

from visionserve.errors import InferenceError, InvalidInputError
from visionserve.services.dcf.detector import Detector, FoundObject
from visionserve.vision.base64_text import from_base64
from visionserve.vision.errors import ImageError
from visionserve.vision.header import read_header

log = logging.getLogger("visionserve")


def answer(detector: Detector, data: str | bytes) -> str:
    """What DCF's function gives. data: see image_of; -> see as_json.

    DCF hands its caller this text and nothing else, no status either: what is wrong with a request is answered with
    the JSON object {"error": SENTENCE} in place of the list.
    """
    try:
        return as_json(detector.find(image_of(data)))
    except (InvalidInputError, InferenceError) as error:
        log.warning("%s", error)
        return json.dumps({"error": str(error)})


def image_of(data: str | bytes) -> bytes:
    """The image file in base64, with line breaks or a data URL's head or without; bytes may be an image file itself.

    Raises InvalidInputError.
    """
    if not data.strip():
        raise InvalidInputError("The input is empty: send an image in base64.")
    try:
        return from_base64(data if isinstance(data, str) else data.decode("ascii", "replace"))
    except ImageError as error:
        if isinstance(data, bytes) and _is_image(data):
            return data
        raise InvalidInputError(f"The input {error}: send an image as the base64 command encodes it.") from error


def as_json(objects: list[FoundObject]) -> str:
    """A list of objects whose values are all strings, as DCF's own detector gave them; confidence to two decimals."""
    return json.dumps(
        [
            {
                "class": found.label,
                "confidence": f"{found.confidence:.2f}",
                "xmin": str(found.xmin),
                "ymin": str(found.ymin),
                "xmax": str(found.xmax),
                "ymax": str(found.ymax),
            }
            for found in objects
        ]
    )


def _is_image(data: bytes) -> bool:
    try:
        return bool(read_header(data))
    except ImageError:
        return False
