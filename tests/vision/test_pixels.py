import struct
import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.vision.photographs import difference, encoded, opened, photograph, reference
from visionserve.vision.errors import ImageError
from visionserve.vision.pixels import to_input

# Sides of which 7/8 are whole, even numbers: the crop falls on whole pixels and a mirrored one is its mirror image.
SIZE = (640, 512)
LARGE = (2560, 2048)
# Mean levels of 255: resizers round differently, a JPEG's reduced scale is a slightly different filter, and
# CMYK is turned into RGB by different rounding. A wrong channel order or a missed flip is 15 or more.
CLOSE = 1.0
REDUCED = 2.0
WRONG = 8.0


@pytest.fixture(scope="module")
def cat():
    return photograph("chelsea", SIZE)


@pytest.fixture(scope="module")
def gradient():
    return Image.linear_gradient("L").resize(SIZE)


def refusal(data, **options):
    with pytest.raises(ImageError) as caught:
        to_input(data, **options)
    return str(caught.value)


def png_header(width, height):
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0) + bytes(4)


@pytest.mark.parametrize("name", ["chelsea", "coffee", "astronaut"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_every_format_gives_the_same_central_pixels(name, kind):
    photo = photograph(name, SIZE)
    data = encoded(photo, kind)
    pixels = to_input(data)
    assert (pixels.shape, pixels.dtype) == ((224, 224, 3), np.uint8)
    assert difference(pixels, reference(opened(data))) < CLOSE
    assert difference(pixels[:, :, ::-1], reference(photo)) > WRONG


def test_a_gif_gives_its_first_frame_or_is_refused_by_name(cat):
    data = encoded(cat, "GIF", save_all=True, append_images=[photograph("coffee", SIZE)])
    if tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 11):
        assert "is a GIF file that OpenCV" in refusal(data)
    else:
        assert difference(to_input(data), reference(cat)) < 2 * REDUCED


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_undone(cat, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(cat, kind, exif=exif.tobytes())
    assert difference(to_input(data), reference(opened(data))) < CLOSE
    if orientation > 1:
        assert difference(to_input(data), reference(cat)) > WRONG


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone_on_a_large_jpeg(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photograph("coffee", LARGE), "JPEG", exif=exif.tobytes())
    assert difference(to_input(data), reference(opened(data))) < REDUCED


def test_a_tall_shape_of_a_turned_image_is_upright_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photograph("coffee", SIZE), "JPEG", exif=exif.tobytes())
    pixels = to_input(data, shape=(280, 224))
    assert pixels.shape == (280, 224, 3)
    assert difference(pixels, reference(opened(data), (280, 224))) < REDUCED


@pytest.mark.parametrize("size", [SIZE, LARGE])
def test_a_cmyk_jpeg_has_the_colors_of_the_photograph(cat, size):
    photo = cat.resize(size)
    assert difference(to_input(encoded(photo.convert("CMYK"))), reference(photo)) < REDUCED


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_grey_image_has_three_equal_channels(cat, kind):
    data = encoded(cat.convert("L"), kind)
    pixels = to_input(data)
    assert difference(pixels, reference(opened(data))) < CLOSE
    if kind != "WEBP":
        assert (pixels == pixels[:, :, :1]).all()


def test_palette_and_one_bit_images_are_expanded(cat):
    for photo in (cat.quantize(64), cat.quantize(16), cat.convert("1")):
        assert difference(to_input(encoded(photo, "PNG")), reference(photo)) < CLOSE


def test_a_16_bit_png_keeps_its_brightness(cat, gradient):
    color = np.asarray(cat)[:, :, ::-1].astype(np.uint16) * 257
    grey = np.asarray(cat.convert("L")).astype(np.uint16) * 257
    alpha = np.asarray(gradient).astype(np.uint16) * 257
    see_through = cat.copy()
    see_through.putalpha(gradient)
    for samples, photo in (
        (color, cat),
        (grey, cat.convert("L")),
        (np.dstack([color, alpha]), see_through),
    ):
        _, data = cv2.imencode(".png", samples)
        assert difference(to_input(data.tobytes()), reference(photo)) < CLOSE


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_laid_on_white(cat, gradient, kind):
    cat = cat.copy()
    cat.putalpha(gradient)
    data = encoded(cat, kind)
    assert difference(to_input(data), reference(opened(data))) < CLOSE
    assert difference(to_input(data), reference(cat.convert("RGB"))) > WRONG


def test_grey_with_alpha_is_laid_on_white(cat, gradient):
    grey = cat.convert("L")
    grey.putalpha(gradient)
    assert difference(to_input(encoded(grey, "PNG")), reference(grey)) < CLOSE


def test_a_fully_opaque_alpha_channel_changes_nothing(cat):
    opaque = cat.copy()
    opaque.putalpha(255)
    assert (to_input(encoded(opaque, "PNG")) == to_input(encoded(cat, "PNG"))).all()


def test_transparent_palette_entries_are_white(cat):
    data = encoded(cat.quantize(64), "PNG", transparency=bytes(range(0, 256, 4)))
    assert difference(to_input(data), reference(cat)) > WRONG
    with opened(data) as photo:
        assert difference(to_input(data), reference(photo)) < CLOSE


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_one_transparent_color_of_a_png_is_white(mode):
    flat = np.asarray(photograph("chelsea", SIZE).convert(mode)) // 64 * 64
    key = flat[256, 320]
    data = encoded(Image.fromarray(flat), "PNG", transparency=int(key) if mode == "L" else tuple(map(int, key)))
    with opened(data) as photo:
        expected = reference(photo)
    assert difference(to_input(data), expected) < CLOSE
    assert difference(expected, reference(Image.fromarray(flat))) > WRONG


@pytest.mark.parametrize(("factor", "quality"), [(2, 85), (4, 85), (8, 30)])
def test_a_large_jpeg_decoded_at_a_reduced_scale_is_close_to_its_full_decode(factor, quality):
    photo = photograph("astronaut", (640 * factor, 512 * factor), Image.BILINEAR)
    data = encoded(photo, "JPEG", quality=quality)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    lossless = cv2.imencode(".bmp", decoded)[1].tobytes()
    assert difference(to_input(data), to_input(lossless)) < REDUCED


def test_a_progressive_jpeg_is_read(cat):
    data = encoded(cat, progressive=True)
    assert difference(to_input(data), reference(opened(data))) < CLOSE


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (100, 80), (224, 224), (256, 256), (5000, 300)])
def test_any_size_and_aspect_gives_the_shape(size):
    photo = photograph("coffee", size)
    pixels = to_input(encoded(photo, "PNG"))
    assert pixels.shape == (224, 224, 3)
    assert difference(pixels, reference(photo)) < WRONG


@pytest.mark.parametrize(
    "header",
    [
        png_header(50000, 50000),
        b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 50000, 50000, 3) + bytes(9) + b"\xff\xda\0\x02\xff\xd9",
        b"GIF89a" + struct.pack("<HHBBB", 50000, 50000, 0, 0, 0),
        b"BM" + struct.pack("<IIIIiiHHI", 0, 0, 54, 40, 50000, -50000, 1, 24, 0),
        b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + struct.pack("<I", 49999)[:3] * 2,
    ],
    ids=["PNG", "JPEG", "GIF", "BMP", "WebP"],
)
def test_a_bomb_is_refused_by_its_header_alone(header):
    assert refusal(header).startswith("has 50000x50000 pixels, more than max_pixels=50000000")


def test_max_pixels_is_the_last_size_that_is_read(cat):
    data = encoded(cat, "PNG")
    assert to_input(data, max_pixels=640 * 512).shape == (224, 224, 3)
    assert refusal(data, max_pixels=640 * 512 - 1).startswith("has 640x512 pixels, more than max_pixels=327679")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("kept", [0.3, 0.98])
def test_a_truncated_upload_is_refused_without_a_word_from_the_decoder(cat, kind, kept, capfd):
    data = encoded(cat, kind)
    assert refusal(data[: int(len(data) * kept)]).startswith("is not a complete image: its ")
    assert capfd.readouterr() == ("", "")


def test_a_truncated_jpeg_with_a_whole_thumbnail_is_refused(cat):
    thumbnail = encoded(cat.resize((160, 128)))
    segment = b"Exif\0\0" + thumbnail
    data = encoded(cat)
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    assert (to_input(data) == to_input(encoded(cat))).all()
    assert "is not a complete image" in refusal(data[:-500])


def test_a_file_cut_inside_its_header_is_refused(cat):
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF"):
        assert "is not a complete image" in refusal(encoded(cat, kind)[:12])


def test_junk_after_the_end_of_a_jpeg_is_ignored(cat):
    data = encoded(cat)
    assert (to_input(data + b"\0junk\xff\xff" * 1000) == to_input(data)).all()


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\0" * 100, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"RIFF0000WAVE"]
)
def test_what_is_not_an_image_is_told_what_is_one(data):
    assert refusal(data) == "is not an image: send JPEG, PNG, WebP, BMP or GIF"


def test_other_image_formats_are_refused_by_name(cat):
    assert refusal(encoded(cat, "TIFF")) == "is a TIFF file: send JPEG, PNG, WebP, BMP or GIF"
    assert refusal(b"\0\0\0\x1cftypavif" + bytes(16)) == "is an AVIF file: send JPEG, PNG, WebP, BMP or GIF"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_damaged_images_give_pixels_or_one_sentence(cat, kind):
    random = np.random.RandomState(7)
    whole = np.frombuffer(encoded(cat.resize((80, 64)), kind), np.uint8)
    for _ in range(60):
        data = whole.copy()
        data[random.randint(2, len(data), 4)] = random.randint(0, 256, 4)
        try:
            outcome = to_input(data.tobytes()).shape
        except ImageError as error:
            outcome = str(error)
        assert outcome == (224, 224, 3) or outcome.startswith(("is ", "has "))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff" + b"\xd0\xff" * 200000,
        b"\xff\xd8" + b"\xff\xe2\0\2" * 200000,
        png_header(10, 10) + (bytes(4) + b"tEXt" + bytes(4)) * 200000,
        b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0, 0, 0) + b"\x21\xfe\0" * 200000,
        b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0, 0, 0) + b"\x21\xfe" + b"\1x" * 200000,
        b"RIFF\xff\xff\xff\x7fWEBPVP8X\x0a\0\0\0" + bytes(10) + b"junk\0\0\0\0" * 200000,
    ],
    ids=["restart markers", "JPEG segments", "PNG chunks", "GIF extensions", "GIF blocks", "WebP chunks"],
)
def test_a_file_of_endless_small_parts_is_refused(data):
    assert refusal(data) == "is not an image that is read here: it is cut into too many parts"


def test_pixels_can_be_written_into_a_row_of_a_batch(cat):
    batch = np.zeros((3, 224, 224, 3), np.uint8)
    data = encoded(cat)
    to_input(data, out=batch[1])
    assert (batch[1] == to_input(data)).all()
    assert not batch[[0, 2]].any()


def test_without_the_quick_jpeg_decoder_opencv_gives_nearly_the_same_pixels(cat, tmp_path):
    small, large = tmp_path / "small.jpg", tmp_path / "large.jpg"
    small.write_bytes(encoded(cat, quality=85))
    large.write_bytes(encoded(photograph("coffee", LARGE), quality=85))
    script = """
        import sys
        sys.modules["simplejpeg"] = None
        import numpy as np
        from visionserve.vision.pixels import to_input
        for name in sys.argv[1:]:
            with open(name, "rb") as file:
                np.save(name + ".npy", to_input(file.read()))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(small), str(large)], check=True)
    for path in (small, large):
        assert difference(to_input(path.read_bytes()), np.load(f"{path}.npy")) < CLOSE


@pytest.mark.parametrize("size", [(640, 427), (500, 375), (900, 800)])
def test_a_moderate_reduction_stays_close_to_the_exact_area_filter(size):
    photo = np.asarray(photograph("coffee", size))
    height, width = photo.shape[:2]
    side = round(min(size) * 7 / 8)
    top, left = (height - side) // 2, (width - side) // 2
    crop = np.ascontiguousarray(photo[top : top + side, left : left + side])
    exact = cv2.resize(crop, (224, 224), interpolation=cv2.INTER_AREA)
    assert side % 224
    assert difference(to_input(encoded(photograph("coffee", size), "PNG")), exact) < CLOSE


@pytest.mark.parametrize("side", [1023, 1024, 1025, 1537, 2047, 2051, pytest.param(4099, marks=pytest.mark.slow)])
def test_a_photograph_has_the_same_pixels_as_jpeg_and_as_png_at_any_size(side):
    data = encoded(photograph("coffee", (side + 333, side)), "JPEG", quality=95)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    png = cv2.imencode(".png", decoded, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    assert difference(to_input(data), to_input(png)) < CLOSE / 2
