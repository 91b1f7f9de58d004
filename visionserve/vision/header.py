"""What an image file says about itself before anything of it is decoded."""

import struct
from typing import Optional, Tuple

from visionserve.vision.errors import ImageError
from visionserve.vision.exif import exif_orientation
from visionserve.vision.header_fields import MAX_PARTS, Header, too_many_parts
from visionserve.vision.jpeg_header import jpeg_header
from visionserve.vision.png_header import png_header

ACCEPTED = "send JPEG, PNG, WebP, BMP or GIF"
# A GIF's frame may be smaller than the canvas, which is decoded whole: how many times, where the canvas is large.
CANVAS_PER_FRAME = 64
LARGE_CANVAS = 4000000
# 25 MB, at 255 bytes in a block.
MAX_BLOCKS = 100000


def read_header(data: bytes) -> Header:
    """ImageError for what is not a JPEG, PNG, WebP, BMP or GIF, and for a header that is cut off."""
    header: Optional[Header] = None
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


def _webp(data: bytes) -> Header:
    if data[8:12] != b"WEBP":
        raise ImageError("is not an image: " + ACCEPTED)
    (riff,) = struct.unpack_from("<I", data, 4)
    if len(data) < 16:
        raise IndexError
    if data[12:16] not in (b"VP8X", b"VP8 ", b"VP8L"):
        raise ImageError("is not an image: its WebP data do not start with a picture")
    width, height, alpha = _webp_size(data, data[12:16], 20)
    orientation, at = 0, 12
    end = min(len(data), 8 + riff)
    for _ in range(MAX_PARTS):
        if at + 8 > end:
            break
        (length,) = struct.unpack_from("<I", data, at + 4)
        kind, body = data[at : at + 4], at + 8
        if kind == b"VP8L" and body + 5 <= end:
            alpha = alpha or bool(data[body + 4] & 0x10)
        elif kind == b"EXIF" and not orientation:
            exif = data[body : body + length]
            orientation = exif_orientation(exif[6:] if exif[:6] == b"Exif\0\0" else exif)
        at = body + length + (length & 1)
    else:
        raise too_many_parts()
    return Header("WebP", width, height, alpha, orientation or 1, complete=len(data) >= 8 + (riff & ~1))


def _webp_size(data: bytes, kind: bytes, body: int) -> Tuple[int, int, bool]:
    """Width, height and whether there is transparency, of the first chunk: it is what libwebp goes by."""
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (body + 4, body + 7))
        return width, height, bool(data[body] & 0x10)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, body + 6)
        return width & 0x3FFF, height & 0x3FFF, False
    (bits,) = struct.unpack_from("<I", data, body + 1)
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)


def _bmp(data: bytes) -> Header:
    start, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    stride = (width * bits + 31) // 32 * 4
    # Run-length encoded, two bytes hold 255 pixels at most, and editors leave none out.
    least = width * abs(height) // 255 * 2 if compression in (1, 2) else stride * abs(height)
    complete = start + least <= len(data)
    alpha = bits == 32 and size >= 56 and compression == 3 and struct.unpack_from("<I", data, 66)[0] != 0
    return Header("BMP", width, abs(height), alpha, complete=complete)


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _table(flags)
    alpha = complete = enough = False
    left = MAX_BLOCKS
    while at < len(data) and not complete and left:
        kind = data[at]
        if kind == 0x2C and at + 10 <= len(data):
            frame, local = struct.unpack_from("<HH", data, at + 5), data[at + 9]
            enough = width * height <= max(LARGE_CANVAS, frame[0] * frame[1] * CANVAS_PER_FRAME)
            at, left, complete = _end_of_blocks(data, at + 11 + _table(local), left)
        elif kind == 0x21 and at + 4 <= len(data):
            alpha = alpha or (data[at + 1] == 0xF9 and bool(data[at + 3] & 1))
            at, left, _ = _end_of_blocks(data, at + 2, left)
        else:
            break
    if not left:
        raise too_many_parts()
    if complete and not enough:
        raise ImageError("is not an image that is read here: its first frame is a speck of it")
    return Header("GIF", width, height, alpha, complete=complete)


def _table(flags: int) -> int:
    """Bytes of the color table that `flags` announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _end_of_blocks(data: bytes, at: int, left: int) -> Tuple[int, int, bool]:
    """Where the chain of blocks at `at` ends, how many of the `left` ones it leaves, and whether it ends at all."""
    while left:
        if at >= len(data):
            return at, left, False
        left -= 1
        if data[at] == 0:
            return at + 1, left, True
        at += 1 + data[at]
    return at, 0, False


_READERS = (
    (b"\xff\xd8\xff", jpeg_header),
    (b"\x89PNG\r\n\x1a\n", png_header),
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
