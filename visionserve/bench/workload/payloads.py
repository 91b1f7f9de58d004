from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import orjson
import pybase64

from visionserve.bench.transport import failures
from visionserve.bench.transport.failures import Failure
from visionserve.bench.workload.images import content_type

SIGNATURE = "image_bytes"


class Payload(NamedTuple):
    """A request body and its content type."""

    body: bytes
    content_type: str


class WrongAnswer(Exception):
    """An answer that does not have the shape that its payload asks for; the text says what was seen."""


class PayloadFormat(Protocol):
    """How images are written into a request, and where an answer holds each one's most likely label."""

    name: str
    several: bool

    def encode(self, images: Sequence[bytes]) -> Payload:
        """The request of encoded images, at least one; more than one only where `several`."""

    def results(self, answer: Any) -> list[Any]:
        """One result an image of the parsed answer. Raises WrongAnswer."""

    def top(self, result: Any) -> str:
        """The most likely label of one result. Raises WrongAnswer."""


class Imgs:
    """JSON {"imgs": [base64, ...]}, answered by a list of label lists."""

    name = "imgs"
    several = True

    def encode(self, images: Sequence[bytes]) -> Payload:
        return _json({"imgs": [pybase64.b64encode_as_string(image) for image in images]})

    def results(self, answer: Any) -> list[Any]:
        if not isinstance(answer, list):
            raise WrongAnswer("not a list")
        return answer

    def top(self, result: Any) -> str:
        return _label(result)


class Img:
    """JSON {"img": base64}, answered by one label list."""

    name = "img"
    several = False

    def encode(self, images: Sequence[bytes]) -> Payload:
        return _json({"img": pybase64.b64encode_as_string(images[0])})

    def results(self, answer: Any) -> list[Any]:
        if not isinstance(answer, list) or not answer:
            raise WrongAnswer("not a list of labels")
        return [answer]

    def top(self, result: Any) -> str:
        return _label(result)


class Raw(Img):
    """The image itself as the body, answered by one label list."""

    name = "raw"

    def encode(self, images: Sequence[bytes]) -> Payload:
        return Payload(images[0], content_type(images[0]) or "application/octet-stream")


class TensorFlowServing:
    """TensorFlow Serving's REST API, row format (https://www.tensorflow.org/tfx/serving/api_rest): each image as
    {"b64": ...} to a signature of encoded images, answered by {"predictions": [...]}.

    Labels are class numbers: `classes` of a prediction, else the place of the largest number in it.
    """

    name = "tfserving"
    several = True

    def __init__(self, signature: str = SIGNATURE) -> None:
        self._signature = signature

    def encode(self, images: Sequence[bytes]) -> Payload:
        instances = [{"b64": pybase64.b64encode_as_string(image)} for image in images]
        return _json({"signature_name": self._signature, "instances": instances})

    def results(self, answer: Any) -> list[Any]:
        if not isinstance(answer, dict) or not isinstance(answer.get("predictions"), list):
            raise WrongAnswer('no list of "predictions"')
        return answer["predictions"]

    def top(self, result: Any) -> str:
        if isinstance(result, dict) and isinstance(result.get("classes"), int):
            return str(result["classes"])
        if isinstance(result, list) and result and all(isinstance(number, int | float) for number in result):
            return str(result.index(max(result)))
        raise WrongAnswer("a prediction without classes")


def payload_format(name: str, signature: str = SIGNATURE) -> PayloadFormat:
    formats: dict[str, PayloadFormat] = {
        "imgs": Imgs(),
        "img": Img(),
        "raw": Raw(),
        "tfserving": TensorFlowServing(signature),
    }
    return formats[name]


PAYLOADS = ("imgs", "img", "raw", "tfserving")


def labels(result: Any) -> list[str]:
    """The labels of one result of a Cortex API, most likely first.

    They are ["cat", ...] or, with ?scores=true, [{"label": "cat", ...}, ...].

    Raises WrongAnswer.
    """
    entries = result if isinstance(result, list) else [result]
    found = [entry.get("label") if isinstance(entry, dict) else entry for entry in entries]
    names = [label for label in found if isinstance(label, str)]
    if not names or len(names) < len(found):
        raise WrongAnswer("a result without a label")
    return names


def parsed(body: bytes) -> Any:
    """The JSON of `body`. Raises WrongAnswer."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WrongAnswer("not JSON") from error


def wrong_answer(what: object, body: bytes) -> Failure:
    return Failure(failures.WRONG_ANSWER, f"{what}: {failures.excerpt(body)}")


def _label(result: Any) -> str:
    return labels(result)[0]


def _json(message: dict[str, Any]) -> Payload:
    return Payload(orjson.dumps(message), "application/json")
