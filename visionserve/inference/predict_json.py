"""TensorFlow Serving's predict requests and answers in JSON (https://www.tensorflow.org/tfx/serving/api_rest)."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from visionserve.errors import InvalidInputError
from visionserve.inference.engine import Signature
from visionserve.inference.json_tensors import is_base64, json_name, shortest, tensor, writable
from visionserve.inference.number_lists import NumberList, lift


@dataclass(frozen=True)
class PredictRequest:
    """`inputs`: name -> array; `by_rows`: asked with `instances`, and to be answered so."""

    signature_key: str
    inputs: dict[str, np.ndarray]
    by_rows: bool


def read_predict_request(body: bytes, signature_of: Callable[[str], Signature]) -> PredictRequest:
    """`signature_of`: a signature's key, "" for the default one, to the signature.

    Arrays have the signature's dtypes; strings are arrays of objects, each `bytes`. Raises InvalidInputError, one
    sentence, for anything that is not such a request.
    """
    document = _document(body)
    if not isinstance(document, dict):
        raise InvalidInputError(f"The body is {json_name(document)}, not an object with 'instances' or 'inputs'.")
    key = document.get("signature_name", "")
    if not isinstance(key, str):
        raise InvalidInputError(f"signature_name is {json_name(key)}, not a string.")
    if ("instances" in document) == ("inputs" in document):
        raise InvalidInputError("The body needs one of 'instances' (rows) and 'inputs' (columns).")
    signature = signature_of(key)
    by_rows = "instances" in document
    columns = _rows(document["instances"], signature) if by_rows else _columns(document["inputs"], signature)
    if columns.keys() != signature.inputs.keys():
        raise InvalidInputError(f"The model takes the inputs {sorted(signature.inputs)}, not {sorted(columns)}.")
    inputs = {name: tensor(name, value, signature.inputs[name].dtype) for name, value in columns.items()}
    return PredictRequest(key, inputs, by_rows)


def predict_response(outputs: Mapping[str, np.ndarray], by_rows: bool) -> bytes:
    """The JSON of name -> array; a float32 is written with the fewest digits that give the same float32 again.

    NaN and infinities are the tokens NaN, Infinity and -Infinity, as TensorFlow Serving has them.
    """
    columns = {name: writable(name, array) for name, array in outputs.items()}
    only = next(iter(columns.values())) if len(columns) == 1 else None
    answer: Any
    if not by_rows:
        answer = {"outputs": columns if only is None else only}
    elif any(array.ndim == 0 for array in outputs.values()):
        raise InvalidInputError("The model's outputs have no rows: ask with 'inputs' in place of 'instances'.")
    elif only is not None:
        answer = {"predictions": only}
    else:
        rows = zip(*columns.values(), strict=True)
        answer = {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}
    if all(np.isfinite(array).all() for array in outputs.values() if array.dtype.kind == "f"):
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(answer, default=shortest).encode()


def _document(body: bytes) -> Any:
    lifted, lists = lift(body)
    if lists:
        with suppress(orjson.JSONDecodeError):  # said better of the body as it was sent
            document = _with_lists(orjson.loads(lifted), lists, depth=3)
            if not lists:
                return document
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"NaN" in body or b"Infinity" in body:
            try:
                return json.loads(body)
            except (ValueError, RecursionError) as other:
                raise InvalidInputError(f"The body is not JSON: {other}.") from other
        raise InvalidInputError(f"The body is not JSON: {error}.") from error


def _with_lists(value: Any, lists: dict[str, NumberList], depth: int) -> Any:
    """Puts the lists back where a request has tensors: instances, rows of them, inputs, columns of them."""
    if isinstance(value, str):
        return lists.pop(value, value)
    if depth and isinstance(value, dict):
        return {key: _with_lists(item, lists, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list) and value and isinstance(value[0], dict):
        return [_with_lists(item, lists, depth - 1) for item in value]
    return value


def _rows(instances: Any, signature: Signature) -> dict[str, Any]:
    if isinstance(instances, NumberList):
        return {_only_input(signature, "instances"): instances}
    if not isinstance(instances, list) or not instances:
        raise InvalidInputError("instances is not a list of at least one instance.")
    if not _is_object(instances[0]):
        return {_only_input(signature, "instances"): instances}
    names = instances[0].keys()
    for number, instance in enumerate(instances):
        if not _is_object(instance) or instance.keys() != names:
            raise InvalidInputError(f"instances[{number}] does not have the inputs of instances[0], {sorted(names)}.")
    return {name: [instance[name] for instance in instances] for name in names}


def _columns(inputs: Any, signature: Signature) -> dict[str, Any]:
    return inputs if _is_object(inputs) else {_only_input(signature, "inputs"): inputs}


def _only_input(signature: Signature, field: str) -> str:
    if len(signature.inputs) != 1:
        raise InvalidInputError(f"{field} does not name the inputs, but the model takes {sorted(signature.inputs)}.")
    return next(iter(signature.inputs))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)
