"""Image files that cost far more to decode than to send."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Bomb(NamedTuple):
    """`refusal`: how the sentence about it goes on, None where it is harmless and answered with labels."""

    file: Callable[[], bytes]
    refusal: str | None


def encoded(size: tuple[int, int], kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(file, kind, **options)
    return file.getvalue()


def zeros(count: int) -> bytes:
    """`count` zero bytes as deflate has them."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    parts = [packer.compress(block[: min(len(block), count - start)]) for start in range(0, count, len(block))]
    return b"".join(parts) + packer.flush()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, depth: int = 8, color: int = 2, before: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return SIGNATURE + header + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def small_png(before: bytes) -> bytes:
    return png(64, 64, zlib.compress(bytes(64 * (1 + 3 * 64))), before=before)


def many_scans(size: tuple[int, int], between: bytes = b"", **options: object) -> bytes:
    """A JPEG with its last scan a thousand times."""
    data = encoded(size, "JPEG", **options)
    start, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    return data[:end] + (between + data[start:end]) * 1000 + data[end:]


def many_segments(segment: bytes, count: int) -> bytes:
    data = encoded((64, 48), "JPEG")
    return data[:2] + (b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment) * count + data[2:]


def gif(width: int, height: int, frames: int, side: int = 8) -> bytes:
    data = encoded((side, side), "GIF")
    start = data.find(b"\x2c")
    return data[:6] + struct.pack("<HH", width, height) + data[10:start] + data[start:-1] * frames + b";"


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) & 1) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def canvas(width: int, height: int) -> tuple[bytes, bytes]:
    return b"VP8X", bytes(4) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]


@cache
def lossless(width: int, height: int) -> tuple[bytes, bytes]:
    return b"VP8L", encoded((width, height), "WEBP", lossless=True)[20:]


def bmp(width: int, height: int, data: bytes) -> bytes:
    header = struct.pack("<IIIIiiHHIIiiII", 0, 0, 54 + 1024, 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + header + bytes(1024) + data


TOO_LARGE = "has 50000x50000 pixels, more than max_pixels"
TOO_FEW = "too few for a picture"
CUT = "is not a complete image"
SCANS = "its JPEG data have more than 50 scans"
EXIF = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(65000)

BOMBS = {
    "PNG of 50,000 x 50,000 in 100 kB": Bomb(lambda: png(50000, 50000, zeros(100_000_000), 1, 0), TOO_LARGE),
    "PNG of 49 megapixels in 143 kB": Bomb(lambda: png(7000, 7000, zeros(7000 * 21001)), TOO_FEW),
    "PNG of 16 megapixels with one row": Bomb(lambda: png(4000, 4000, zeros(12001)), CUT),
    "PNG of 16 bits and four channels": Bomb(
        lambda: png(5000, 5000, zeros(5000 * 40001), 16, 6), "which count 3fold, more than max_pixels"
    ),
    "PNG with 300 texts of 7 MB": Bomb(lambda: small_png(chunk(b"zTXt", b"a\0\0" + zeros(7 << 20)) * 300), None),
    "PNG with 300 international texts": Bomb(
        lambda: small_png(chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(7 << 20)) * 300), None
    ),
    "PNG with a profile of 60 MB": Bomb(lambda: small_png(chunk(b"iCCP", b"a\0\0" + zeros(60 << 20))), None),
    "PNG of 200,000 chunks": Bomb(lambda: small_png(chunk(b"tEXt", b"") * 200_000), "cut into too many parts"),
    "JPEG of a thousand progressive scans": Bomb(lambda: many_scans((2000, 2000), progressive=True), SCANS),
    "JPEG of a thousand scans behind false ends": Bomb(
        lambda: many_scans((2000, 2000), b"\xff\xfe\0\4\xff\xd9", progressive=True), SCANS
    ),
    "JPEG of 49 megapixels without data": Bomb(lambda: _without_data((7000, 7000)), TOO_FEW),
    "JPEG of 12 megapixels without data": Bomb(lambda: _without_data((4000, 3000)), CUT),
    "JPEG with 5 MB of EXIF": Bomb(lambda: many_segments(EXIF, 80), None),
    "JPEG of 200,000 segments": Bomb(lambda: many_segments(b"", 200_000), "cut into too many parts"),
    "GIF of 5,000 frames": Bomb(lambda: gif(500, 500, 5000, side=400), None),
    "GIF of 50,000 specks on a canvas of 49 megapixels": Bomb(
        lambda: gif(7000, 7000, 50_000), "its first frame is a speck of it"
    ),
    "GIF of 10 million blocks": Bomb(
        lambda: b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + (b"\x21\xfe" + b"\1x" * 9990 + b"\0") * 500,
        "cut into too many parts",
    ),
    "WebP of 49 megapixels in 2 kB": Bomb(lambda: encoded((7000, 7000), "WEBP", lossless=True), TOO_FEW),
    "WebP with a smaller canvas behind the picture": Bomb(
        lambda: webp(lossless(9000, 9000), canvas(10, 10)), "has 9000x9000 pixels, more than max_pixels"
    ),
    "WebP with a smaller canvas before the picture": Bomb(
        lambda: webp(canvas(10, 10), lossless(9000, 9000)), "is a WebP file that OpenCV"
    ),
    "WebP with an unknown chunk before all": Bomb(
        lambda: webp((b"junk", b""), lossless(9000, 9000)), "its WebP data do not start with a picture"
    ),
    "BMP of 49 run-length encoded megapixels in 1 kB": Bomb(lambda: bmp(7000, 7000, b"\0\1"), TOO_FEW),
    "BMP of 12 run-length encoded megapixels in 1 kB": Bomb(lambda: bmp(4000, 3000, b"\0\1"), CUT),
    "TIFF": Bomb(lambda: b"II*\0" + bytes(1000), "is a TIFF file"),
    "PSD": Bomb(lambda: b"8BPS\0\1" + bytes(1000), "is not an image"),
    "AVIF named a BMP": Bomb(lambda: b"BM\0\0ftypavif" + bytes(1000), CUT),
}


def _without_data(size: tuple[int, int]) -> bytes:
    data = encoded(size, "JPEG")
    scan = data.find(b"\xff\xda")
    (length,) = struct.unpack_from(">H", data, scan + 2)
    return data[: scan + 2 + length] + b"\xff\xd9"
