"""TensorFlow Serving's JSON of tensors (https://www.tensorflow.org/tfx/serving/api_rest) as numpy arrays, and back."""

from array import array as typed_array
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np
import orjson
import pybase64

from visionserve.errors import InvalidInputError
from visionserve.inference.number_lists import MAX_RANK, NumberList

JSON_NAMES = {
    int: "a whole number",
    float: "a decimal number",
    bool: "a boolean",
    str: "a string",
    type(None): "null",
    dict: "an object",
    list: "a list",
}
WANTED: dict[str, set[type]] = {
    "b": {bool},
    "i": {int},
    "u": {int},
    "f": {int, float},
    "O": {str, dict},
    "S": {str, dict},
    "U": {str, dict},
}


def tensor(name: str, value: Any, dtype: np.dtype) -> np.ndarray:
    """`value`: a JSON value, nested lists for an array; `name`: of the input, for errors. Strings become `bytes`.

    Raises InvalidInputError for a ragged list, another type than `dtype` and numbers out of its range.
    """
    if isinstance(value, NumberList):
        try:
            return value.read(lambda flat: _values(name, flat, dtype))
        except orjson.JSONDecodeError as error:
            raise InvalidInputError(f"The body is not JSON: input {name}: {error}.") from error
        except ValueError as error:
            raise InvalidInputError(f"Input {name} {error}.") from error
    if isinstance(value, list) and any(isinstance(item, NumberList) for item in value):
        items = [tensor(name, item, dtype) for item in value]
        if len({item.shape for item in items}) != 1:
            raise InvalidInputError(f"Input {name} is a ragged list.")
        return np.stack(items)
    shape: list[int] = []
    level = [value]
    while list in (kinds := set(map(type, level))):
        lengths = set(map(len, level)) if len(kinds) == 1 else set()
        if len(lengths) != 1:
            raise InvalidInputError(f"Input {name} is a ragged list.")
        if len(shape) == MAX_RANK:
            raise InvalidInputError(f"Input {name} has more than {MAX_RANK} dimensions.")
        shape.append(lengths.pop())
        level = list(chain.from_iterable(level))
    return _values(name, level, dtype).reshape(shape)


def _values(name: str, flat: list, dtype: np.dtype) -> np.ndarray:
    wanted = WANTED.get(dtype.kind, set())
    if unwanted := set(map(type, flat)) - wanted:
        holds = min(JSON_NAMES[kind] for kind in unwanted)
        takes = "string" if dtype.kind in "OSU" else dtype
        raise InvalidInputError(f"Input {name} is {takes}, but it holds {holds}.")
    if dtype.kind in "iu":
        try:
            # numpy 1 would wrap what does not fit.
            return np.array(typed_array(dtype.char, flat), dtype)
        except OverflowError as error:
            limits = np.iinfo(dtype)
            wrong = next(number for number in flat if not limits.min <= number <= limits.max)
            raise InvalidInputError(
                f"Input {name} is {dtype}, {limits.min} to {limits.max}, but it holds {wrong}."
            ) from error
    if dtype.kind == "f":
        return _decimals(name, flat, dtype)
    if dtype.kind == "b":
        return np.array(flat, dtype)
    strings = np.empty(len(flat), object)
    strings[:] = [_bytes(name, item) for item in flat]
    return strings


def _decimals(name: str, flat: list, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        try:
            wide = np.array(flat, np.float64)
        except OverflowError as error:
            raise InvalidInputError(f"Input {name} is {dtype}, but it holds a number out of its range.") from error
        values = wide.astype(dtype)
    if not np.array_equal(np.isinf(values), np.isinf(wide)):
        wrong = wide[np.isinf(values) & np.isfinite(wide)][0]
        raise InvalidInputError(f"Input {name} is {dtype}, but it holds {wrong}, which is out of its range.")
    return values


def _bytes(name: str, item: str | dict) -> bytes:
    if isinstance(item, str):
        try:
            return item.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(f"Input {name} holds a string that is not Unicode: send it as b64.") from error
    if not is_base64(item):
        raise InvalidInputError(f'Input {name} is string, but it holds an object other than {{"b64": "..."}}.')
    try:
        return pybase64.b64decode(item["b64"], validate=True)
    except ValueError:
        compact = "".join(item["b64"].split()).rstrip("=")
    try:
        return pybase64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except ValueError as error:
        raise InvalidInputError(f"Input {name} holds a b64 that is not base64: {error}.") from error


def is_base64(value: dict) -> bool:
    """Whether a JSON object stands for bytes: {"b64": "..."}."""
    return value.keys() == {"b64"} and isinstance(value["b64"], str)


def json_name(value: Any) -> str:
    """What a sentence calls a JSON value."""
    return JSON_NAMES.get(type(value), "a list")


def writable(name: str, array: np.ndarray) -> Any:
    """What orjson and json write for an array; strings of an output named ..._bytes as {"b64": ...}."""
    if array.dtype.kind in "OSU":
        return _strings(array.tolist(), name.endswith("_bytes"))
    return np.ascontiguousarray(array) if array.ndim else array[()]


def _strings(value: Any, binary: bool) -> Any:
    if isinstance(value, list):
        return [_strings(item, binary) for item in value]
    if isinstance(value, str):
        value = value.encode()
    if not binary:
        with suppress(UnicodeDecodeError):  # what is not text is written as base64 whatever its name
            return value.decode()
    return {"b64": pybase64.b64encode(value).decode()}


def shortest(value: Any) -> Any:
    """json.dumps's `default` for arrays and numpy's scalars, with the fewest digits that their dtype needs."""
    array = np.asarray(value)
    return (array.astype(str).astype(np.float64) if array.dtype.kind == "f" else array).tolist()
