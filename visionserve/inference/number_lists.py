"""Long JSON arrays of numbers, read without a Python list for each row of pixels.

A photograph as nested lists is 50,000 small lists. Making them is most of the time of reading such a body, and keeps
every other thread of the process waiting. Read flat and in pieces it is three times as fast, and others get their turn.
"""

import math
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import orjson

# Shorter arrays gain nothing.
LONG = 4096
PIECE = 1 << 18
MAX_RANK = 32

_NUMBERS = rb"[-+\d.eE\s,\[\]]"
_START = re.compile(rb"\[" + _NUMBERS + b"{%d}" % LONG)
_REST = re.compile(_NUMBERS + rb"*")
_BRACKETS_TO_SPACES = bytes.maketrans(b"[]", b"  ")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[],"))


class NumberList:
    """The text of a JSON array that holds nothing but numbers and arrays of them."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def read(self, convert: Callable[[list], np.ndarray]) -> np.ndarray:
        """`convert`: list of int and float -> array [n]. Gives an array of the list's own shape.

        Raises orjson.JSONDecodeError where the text is not JSON, ValueError for a ragged or empty list.
        """
        shape = _shape(b"".join(piece.translate(None, _NOT_STRUCTURE) for piece in self._pieces()))
        if shape is not None:
            texts = (piece.translate(_BRACKETS_TO_SPACES) for piece in self._pieces())
            with suppress(orjson.JSONDecodeError):  # said better of the whole text
                values = np.concatenate([convert(orjson.loads(b"[%b]" % text.removesuffix(b","))) for text in texts])
                if values.size == math.prod(shape):
                    return values.reshape(shape)
        orjson.loads(self._text)
        raise ValueError("is a list with ragged or empty parts")

    def _pieces(self) -> Iterator[bytes]:
        start = 0
        while start < len(self._text):
            end = self._text.find(b",", start + PIECE) + 1 or len(self._text)
            yield self._text[start:end]
            start = end


def lift(body: bytes) -> tuple[bytes, dict[str, NumberList]]:
    """Takes the long arrays of numbers out of a JSON text.

    Gives the text with a string in the place of each, and what each string stands for. A body that is JSON only with
    or only without its arrays shows when the text is parsed, or by strings that are missing from it.
    """
    token = secrets.token_hex(16)
    lists: dict[str, NumberList] = {}
    parts = []
    done = 0
    while found := _START.search(body, done):
        start = end = found.start()
        while (rest := _REST.match(body, end, end + PIECE)) and rest.end() > end:
            end = rest.end()
        end = body.rfind(b"]", start, end) + 1
        if not end:
            break
        key = f"{token}-{len(lists)}"
        lists[key] = NumberList(body[start:end])
        parts += [body[done:start], b'"%b"' % key.encode()]
        done = end
    return b"".join([*parts, body[done:]]), lists


def _shape(structure: bytes) -> tuple[int, ...] | None:
    """The shape of an array of which only brackets and commas are left; None where it is ragged.

    A list of one number and one of none look alike here: both count as one.
    """
    rank = len(structure) - len(structure.lstrip(b"["))
    if rank > MAX_RANK:
        return None
    sizes: list[int] = []
    inner = b""
    for level in range(1, rank + 1):
        end = structure.find(b"]" * level)
        block = structure[rank - level : end + level]
        size = (len(block) - 1) // (len(inner) + 1)
        if end < 0 or block != b"[" + (inner + b",") * (size - 1) + inner + b"]":
            return None
        sizes.insert(0, size)
        inner = block
    return tuple(sizes) if inner == structure else None
