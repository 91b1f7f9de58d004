"""What a header tells of files that are odd, but right: none of the limits may refuse a picture."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.faults.bombs import chunk
from tests.vision.photographs import encoded, photograph
from visionserve.vision.errors import ImageError
from visionserve.vision.header import read_header
from visionserve.vision.pixels import to_input

SIZE = (128, 96)


@pytest.fixture(scope="module")
def cat():
    return photograph("chelsea", SIZE)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_png_has_the_same_pixels_with_a_megabyte_of_texts_and_a_profile(cat, mode):
    plain = encoded(cat.convert(mode), "PNG")
    noise = np.random.default_rng(7).bytes(1 << 20)
    texts = chunk(b"zTXt", b"a\0\0" + zlib.compress(noise)) + chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(noise))
    start = plain.index(b"IDAT") - 4
    long = (
        plain[:start] + texts + chunk(b"iCCP", b"a\0\0" + zlib.compress(noise)) + plain[start:-12] + texts + plain[-12:]
    )
    assert read_header(long).texts > 1 << 20
    assert (to_input(long) == to_input(plain)).all()


def test_a_jpeg_may_have_what_looks_like_scans_behind_its_end(cat):
    data = encoded(cat, progressive=True)
    assert (to_input(data + b"\xff\xda\0\x08" * 1000) == to_input(data)).all()


def test_a_jpeg_may_have_as_many_scans_as_its_encoder_writes_and_no_thousand(cat):
    data = encoded(cat, progressive=True)
    start, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    written = data.count(b"\xff\xda")
    most = data[:end] + data[start:end] * (50 - written) + data[end:]
    assert to_input(most).shape == (224, 224, 3)
    with pytest.raises(ImageError, match="more than 50 scans"):
        to_input(most[:-2] + data[start:end] + most[-2:])


def test_the_first_exif_segment_counts(cat):
    data = encoded(cat, exif=exif(6))
    again = encoded(cat, exif=exif(3))
    found = again.index(b"\xff\xe1")
    segment = again[found : found + 2 + struct.unpack_from(">H", again, found + 2)[0]]
    assert read_header(data).orientation == 6
    start = data.index(b"\xff\xdb")
    assert read_header(data[:start] + segment + data[start:]).orientation == 6


def test_a_gif_may_begin_with_a_frame_smaller_than_its_canvas(cat):
    data = encoded(cat, "GIF")
    larger = data[:6] + struct.pack("<HH", 700, 500) + data[10:]
    assert (read_header(larger).width, read_header(larger).height) == (700, 500)
    assert to_input(larger).shape == (224, 224, 3)


def test_a_large_blank_picture_is_refused_and_one_of_sixteen_megapixels_is_not():
    blank = Image.new("L", (4000, 4000), 255)
    assert to_input(encoded(blank, "PNG")).shape == (224, 224, 3)
    with pytest.raises(ImageError, match=r"has 4001x4000 pixels in .* bytes, too few for a picture"):
        to_input(encoded(Image.new("L", (4001, 4000), 255), "PNG"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_a_small_blank_picture_is_complete(kind, mode):
    data = encoded(Image.new(mode, (2000, 1500), 1), kind)
    assert read_header(data).complete
    assert to_input(data).shape == (224, 224, 3)


def test_a_webp_tells_the_size_of_its_first_chunk(cat):
    plain = encoded(cat, "WEBP", lossless=True)
    canvas = b"VP8X\x0a\0\0\0" + bytes(4) + bytes([9, 0, 0, 9, 0, 0])
    lying = plain[:4] + struct.pack("<I", len(plain) - 8 + len(canvas)) + plain[8:] + canvas
    assert read_header(lying)[1:3] == read_header(plain)[1:3] == SIZE
