import struct
from typing import Iterator, NamedTuple

from visionserve.vision.errors import ImageError
from visionserve.vision.exif import exif_orientation
from visionserve.vision.header_fields import MAX_PARTS, Header, too_many_parts

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# The most that deflate makes of a byte: 258 bytes from two bits (RFC 1951).
_INFLATION = 1032
# They have nothing to do with the pixels, and a file of them alone keeps libpng inflating for seconds.
_TEXTS = (b"zTXt", b"iTXt", b"iCCP")


class Chunk(NamedTuple):
    """`start`: of the whole chunk, `length`: of its body, in bytes."""

    kind: bytes
    start: int
    length: int


def png_header(data: bytes) -> Header:
    """W3C's Portable Network Graphics Specification. struct.error for a header that is cut off, else ImageError."""
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    if data[12:16] != b"IHDR":
        raise ImageError("is not an image: its PNG data do not start with a header")
    alpha, orientation, complete, key, stored, texts = bool(color & 4), 0, False, None, 0, 0
    for kind, start, length in _chunks(data):
        at = start + 8
        if kind == b"IEND":
            complete = True
        elif kind == b"IDAT":
            stored += length
        elif kind in _TEXTS:
            texts += length
        elif kind == b"tRNS":
            alpha = True
            if color == 0 and length >= 2:
                key = struct.unpack_from(">H", data, at)
            elif color == 2 and length >= 6:
                key = struct.unpack_from(">HHH", data, at)
        elif kind == b"eXIf" and not orientation:
            orientation = exif_orientation(data[at : at + length])
    enough = stored * _INFLATION * 8 >= width * height * depth * _CHANNELS.get(color, 1)
    return Header("PNG", width, height, alpha, orientation or 1, complete and enough, key, depth, texts)


def without_texts(data: bytes) -> bytes:
    """`data`, a complete PNG file, without its compressed texts and its color profile."""
    parts, kept = [], 0
    for kind, start, length in _chunks(data):
        if kind in _TEXTS:
            parts.append(data[kept:start])
            kept = start + 12 + length
    return b"".join([*parts, data[kept:]])


def _chunks(data: bytes) -> Iterator[Chunk]:
    """As far as IEND or the end of the data."""
    at = 8
    for _ in range(MAX_PARTS):
        if at + 12 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        yield Chunk(kind, at, length)
        if kind == b"IEND":
            return
        at += 12 + length
    raise too_many_parts()
