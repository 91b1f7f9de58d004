"""What an image file says about itself before anything of it is decoded."""

import re
import struct
from typing import NamedTuple, Optional, Tuple

from visionserve.vision.errors import ImageError
from visionserve.vision.exif import exif_orientation

ACCEPTED = "send JPEG, PNG, WebP, BMP or GIF"
# No camera or editor comes near it; a file made of empty parts would keep a thread busy for seconds.
MAX_PARTS = 100000

_MARKER = re.compile(b"\xff[^\0\xff]")


class Header(NamedTuple):
    """`width` and `height` in pixels as stored, before `orientation` (EXIF's 1..8) is applied.

    `alpha`: pixels may be transparent; `color_key`: the one transparent color of a PNG without an alpha
    channel (grey or RGB samples at `depth` bits); `complete`: the data reach as far as the format says.
    """

    format: str
    width: int
    height: int
    alpha: bool = False
    orientation: int = 1
    complete: bool = True
    color_key: Optional[Tuple[int, ...]] = None
    depth: int = 8


def read_header(data: bytes) -> Header:
    """ImageError for what is not a JPEG, PNG, WebP, BMP or GIF, and for a header that is cut off."""
    header = None  # type: Optional[Header]
    for signature, read in _READERS:
        if data.startswith(signature):
            try:
                header = read(data)
            except (struct.error, IndexError):
                header = None
            if header is None or (not header.width and not header.complete):
                raise ImageError("is not a complete image: it ends inside its header")
            if header.width < 1 or header.height < 1:
                raise ImageError("is not an image: its header gives {0.width}x{0.height} pixels".format(header))
            return header
    for signature, offset, name in _REFUSED:
        if data[offset : offset + len(signature)] == signature:
            raise ImageError("is {} file: {}".format(name, ACCEPTED))
    raise ImageError("is not an image: " + ACCEPTED)


def _jpeg(data: bytes) -> Header:
    # Bytes between segments are skipped as libjpeg does it, so that both see the same frame header.
    size, orientation, at = None, 1, 2
    for _ in range(MAX_PARTS):
        found = _MARKER.search(data, at)
        if found is None:
            raise IndexError
        marker, at = found.group()[1], found.end()
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            continue
        if marker == 0xD9:
            raise ImageError("is not an image: its JPEG data hold no picture")
        (length,) = struct.unpack_from(">H", data, at)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            size = struct.unpack_from(">HH", data, at + 3)
        elif marker == 0xE1 and data[at + 2 : at + 8] == b"Exif\0\0" and orientation == 1:
            orientation = exif_orientation(data[at + 8 : at + length])
        elif marker == 0xDA:
            break
        at += max(length, 2)
    else:
        raise _too_many_parts()
    if size is None:
        raise ImageError("is not an image: its JPEG data hold no frame header")
    # An end marker before the scan belongs to a thumbnail; bytes after the last one are trailing junk.
    complete = data.rfind(b"\xff\xd9", at) >= 0
    return Header("JPEG", size[1], size[0], orientation=orientation, complete=complete)


def _png(data: bytes) -> Header:
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    if data[12:16] != b"IHDR":
        raise ImageError("is not an image: its PNG data do not start with a header")
    alpha, orientation, complete, key, at = bool(color & 4), 1, False, None, 8
    for _ in range(MAX_PARTS):
        if at + 12 > len(data):
            break
        (length,) = struct.unpack_from(">I", data, at)
        kind = data[at + 4 : at + 8]
        if kind == b"IEND":
            complete = True
            break
        if kind == b"tRNS":
            alpha = True
            if color == 0 and length >= 2:
                key = struct.unpack_from(">H", data, at + 8)
            elif color == 2 and length >= 6:
                key = struct.unpack_from(">HHH", data, at + 8)
        elif kind == b"eXIf":
            orientation = exif_orientation(data[at + 8 : at + 8 + length])
        at += 12 + length
    else:
        raise _too_many_parts()
    return Header("PNG", width, height, alpha, orientation, complete, key, depth)


def _webp(data: bytes) -> Header:
    if data[8:12] != b"WEBP":
        raise ImageError("is not an image: " + ACCEPTED)
    (riff,) = struct.unpack_from("<I", data, 4)
    width = height = 0
    alpha, orientation, at = False, 1, 12
    end = min(len(data), 8 + riff)
    for _ in range(MAX_PARTS):
        if at + 8 > end:
            break
        (length,) = struct.unpack_from("<I", data, at + 4)
        kind, body = data[at : at + 4], at + 8
        if kind == b"VP8X":
            alpha = alpha or bool(data[body] & 0x10)
            width = 1 + int.from_bytes(data[body + 4 : body + 7], "little")
            height = 1 + int.from_bytes(data[body + 7 : body + 10], "little")
        elif kind == b"VP8 " and not width:
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, body + 6))
        elif kind == b"VP8L" and not width:
            (bits,) = struct.unpack_from("<I", data, body + 1)
            width, height, alpha = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
        elif kind == b"EXIF":
            exif = data[body : body + length]
            orientation = exif_orientation(exif[6:] if exif[:6] == b"Exif\0\0" else exif)
        at = body + length + (length & 1)
    else:
        raise _too_many_parts()
    return Header("WebP", width, height, alpha, orientation, complete=len(data) >= 8 + (riff & ~1))


def _bmp(data: bytes) -> Header:
    start, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    packed = compression in (1, 2)  # run-length encoded: the length is known only by decoding
    stride = (width * bits + 31) // 32 * 4
    complete = packed or start + stride * abs(height) <= len(data)
    alpha = bits == 32 and size >= 56 and compression == 3 and struct.unpack_from("<I", data, 66)[0] != 0
    return Header("BMP", width, abs(height), alpha, complete=complete)


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    alpha = complete = False
    for _ in range(MAX_PARTS // 100):
        if at >= len(data) or complete:
            break
        kind = data[at]
        if kind == 0x2C and at + 10 <= len(data):
            local = data[at + 9]
            at, complete = _end_of_blocks(data, at + 11 + (3 << (local & 7) + 1 if local & 0x80 else 0))
        elif kind == 0x21 and at + 4 <= len(data):
            alpha = alpha or (data[at + 1] == 0xF9 and bool(data[at + 3] & 1))
            at, _ = _end_of_blocks(data, at + 2)
        else:
            break
    else:
        raise _too_many_parts()
    return Header("GIF", width, height, alpha, complete=complete)


def _end_of_blocks(data: bytes, at: int) -> Tuple[int, bool]:
    for _ in range(MAX_PARTS):
        if at >= len(data):
            return at, False
        if data[at] == 0:
            return at + 1, True
        at += 1 + data[at]
    raise _too_many_parts()


def _too_many_parts() -> ImageError:
    return ImageError("is not an image that is read here: it is cut into too many parts")


_READERS = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"RIFF", _webp),
    (b"BM", _bmp),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
)

_REFUSED = (
    (b"II*\0", 0, "a TIFF"),
    (b"MM\0*", 0, "a TIFF"),
    (b"ftypavi", 4, "an AVIF"),
    (b"ftyp", 4, "a HEIF or video"),
    (b"\0\0\0\x0cjP  ", 0, "a JPEG 2000"),
    (b"\xff\x0a", 0, "a JPEG XL"),
    (b"%PDF", 0, "a PDF"),
)
