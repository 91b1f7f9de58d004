"""What is fuzzed: each target takes any bytes, and raises for what may not come of them."""

import asyncio
import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
from google.protobuf.message import DecodeError
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis.predict_pb2 import PredictRequest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from predictor import TensorFlowPredictor
from tests.fuzz import seeds
from tests.predictor_requests import RecordingClient
from visionserve.cortex import payload
from visionserve.cortex.spec.api import ApiSpec
from visionserve.cortex.spec.file import load_specs
from visionserve.errors import InvalidInputError, UsageError
from visionserve.inference import tensors
from visionserve.inference.engine import Signature, TensorSpec
from visionserve.inference.predict_json import read_predict_request
from visionserve.services.function.event import read_event
from visionserve.services.function.notification import read_records
from visionserve.vision.addresses import parse
from visionserve.vision.decoding import checked_header, decode
from visionserve.vision.errors import ImageError, UrlError
from visionserve.vision.picture import to_picture
from visionserve.vision.pixels import to_input

MAX_PIXELS = 1_000_000
JSON = {"content-type": "application/json"}
CLOUD = {"content-type": "application/cloudevents+json; charset=utf-8"}
BINARY = {**JSON, "ce-id": "7", "ce-specversion": "1.0", "ce-type": "s3", "ce-source": "/"}
STRINGS = TensorSpec(np.dtype(object), (-1,))
SIGNATURES = {
    "": {"input": TensorSpec(np.dtype(np.uint8), (-1, 2, 2, 3))},
    "mixed": {"x": TensorSpec(np.dtype(np.float32), (-1, -1)), "s": STRINGS},
    "bytes": {"image_bytes": STRINGS},
}


def _check_sentence(said: Exception | str, *beginnings: str) -> None:
    """It can be sent, and is there."""
    assert str(said).encode()
    assert str(said).startswith(beginnings or ""), said


def image(data: bytes) -> None:
    """Pixels or one sentence, and the header's size is the decoder's."""
    try:
        header = checked_header(data, MAX_PIXELS)
        assert decode(data, header).shape[:2] == (header.height, header.width), header
    except ImageError as error:
        _check_sentence(error, "is ", "has ")
    for read in (lambda: to_input(data, max_pixels=MAX_PIXELS), _picture(data)):
        try:
            pixels = read()
        except ImageError as error:
            _check_sentence(error, "is ", "has ")
        else:
            assert (pixels.shape, pixels.dtype) == ((224, 224, 3), np.uint8)


def _picture(data: bytes) -> Callable[[], np.ndarray]:
    return lambda: to_picture(data, lambda *_: (224, 224), MAX_PIXELS).pixels


PREDICTOR = TensorFlowPredictor(RecordingClient(flat=False), {"max_pixels": MAX_PIXELS, "allow_urls": False})


def body(data: bytes) -> None:
    """A JSON body, as one and as a body of no type: labels, or 400 with a sentence."""
    with contextlib.suppress(HTTPException):
        _predicted(payload.parse(_request(data, "application/json"), data))
    _predicted(payload.parse(_request(data, ""), data))


def form(data: bytes) -> None:
    request = _request(data, seeds.MULTIPART)
    with contextlib.suppress(HTTPException):
        _predicted(asyncio.run(payload.read_body(request)))


def _predicted(content: object) -> None:
    answer = PREDICTOR.predict(content, {})
    PREDICTOR.client.batches.clear()
    if isinstance(answer, JSONResponse):
        assert (answer.status_code, list(json.loads(answer.body))) == (400, ["error"])
    else:
        assert answer
        orjson.dumps(answer)


def _request(data: bytes, content_type: str) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": data, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", content_type.encode())]}, receive)


def spec(data: bytes) -> None:
    """APIs that go through JSON and back, or lines that each name the file and where."""
    file = _PROJECT / "cortex.yaml"
    file.write_bytes(data)
    try:
        specs = load_specs(file)
    except UsageError as error:
        for line in str(error).splitlines():
            _check_sentence(line, f"{file}:", f"{file} ")
    else:
        assert [ApiSpec.model_validate_json(each.model_dump_json()) for each in specs] == specs


_FOLDER = tempfile.TemporaryDirectory(prefix="visionserve-fuzz-")
_PROJECT = Path(_FOLDER.name)
(_PROJECT / "predictor.py").touch()


def event(data: bytes) -> None:
    """The first byte chooses the headers."""
    headers = (JSON, CLOUD, BINARY, {"content-type": "text/plain"}, {})[data[0] % 5 if data else 0]
    try:
        read = read_event(headers, data[1:])
        records = read_records(read.data)
    except (InvalidInputError, HTTPException) as error:
        _check_sentence(error)
        return
    for each in records or []:
        assert each.bucket
        assert each.key
        assert (each.size or 0) >= 0
    _, answer = read.answer({"top_prediction": [], "messages": [each.key for each in records or []]})
    orjson.loads(answer)


def proto(data: bytes) -> None:
    """Arrays within the limit that go back and forth unchanged, or one sentence."""
    try:
        request = PredictRequest.FromString(data)
    except DecodeError:
        return
    for tensor in request.inputs.values():
        try:
            array = tensors.array_of(tensor)
        except ValueError as error:
            _check_sentence(error, "has ", "does not ")
            continue
        assert array.nbytes <= tensors.MAX_TENSOR_BYTES
        if array.size > 100_000:
            continue
        for write in (tensors.write_request, tensors.write_response):
            copy = type(tensor)()
            write(array, copy)
            again = tensors.array_of(copy)
            same = array.tobytes() == again.tobytes() if array.dtype.kind != "O" else array.tolist() == again.tolist()
            assert (again.shape, again.dtype) == (array.shape, array.dtype)
            assert same


def predict(data: bytes) -> None:
    """What is read of long lists of numbers is what JSON has, however it is spaced."""
    spaced = data.replace(b",", b", " + b" " * 20) if b'"' not in data[data.find(b"[") : data.rfind(b"]")] else data
    assert _inputs(data) == _inputs(spaced)


def _inputs(data: bytes) -> object:
    try:
        request = read_predict_request(data, _signature)
    except InvalidInputError as error:
        _check_sentence(error)
        return None
    return {
        name: (array.shape, array.tolist() if array.dtype.kind == "O" else array.tobytes())
        for name, array in request.inputs.items()
    }


def _signature(key: str) -> Signature:
    if key not in SIGNATURES:
        raise InvalidInputError(f"There is no signature {key!r}.")
    return Signature(SIGNATURES[key], {})


def url(data: bytes) -> None:
    """What may be asked for holds nothing that ends a line of HTTP, and says the same when it is read again."""
    try:
        target = parse(data.decode("utf-8", "surrogateescape"))
    except UrlError as error:
        _check_sentence(error)
        return
    assert re.fullmatch(r"[!-~]+", target.path), target
    assert re.fullmatch(r"[a-z0-9._:%-]+", target.host), target
    assert 0 < target.port < 65536, target
    host = f"[{target.host}]" if ":" in target.host else target.host
    assert parse(f"{target.scheme}://{host}:{target.port}{target.path}") == target


class Target(NamedTuple):
    check: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]


TARGETS = {
    "image": Target(image, seeds.images),
    "body": Target(body, seeds.payloads),
    "form": Target(form, seeds.forms),
    "spec": Target(spec, seeds.specs),
    "event": Target(event, seeds.notifications),
    "proto": Target(proto, seeds.predict_requests),
    "predict": Target(predict, seeds.predict_bodies),
    "url": Target(url, seeds.urls),
}
