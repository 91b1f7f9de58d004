import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.vision.photographs import difference, encoded, opened, photograph
from visionserve.vision.errors import ImageError
from visionserve.vision.picture import to_picture


def as_it_is(height, width):
    return height, width


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_the_whole_picture_comes_in_its_own_size(kind):
    data = encoded(photograph("coffee"), kind)
    pixels, height, width = to_picture(data, as_it_is)
    assert (height, width) == (400, 600)
    assert difference(pixels, np.asarray(opened(data).convert("RGB"))) < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright_and_so_is_the_size_that_it_is_wanted_in(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photograph("coffee"), exif=exif)
    upright = ImageOps.exif_transpose(opened(data))
    asked = []

    def wanted(height, width):
        asked.append((height, width))
        return height // 2, width // 2

    pixels, height, width = to_picture(data, wanted)
    assert asked == [(height, width)] == [(upright.height, upright.width)]
    expected = upright.resize((width // 2, height // 2), Image.BOX)
    assert difference(pixels, np.asarray(expected)) < 3


@pytest.mark.parametrize(
    ("size", "wanted"), [((4000, 3000), (384, 512)), ((1000, 700), (350, 500)), ((40, 30), (90, 60))]
)
def test_a_jpeg_at_another_size_is_near_the_one_that_was_wholly_decoded(size, wanted):
    data = encoded(photograph("coffee", size, Image.BICUBIC))
    pixels, height, width = to_picture(data, lambda height, width: wanted)
    assert (width, height) == size
    assert pixels.shape == (*wanted, 3)
    smaller = wanted[0] < height
    expected = opened(data).resize(wanted[::-1], Image.BOX if smaller else Image.BILINEAR)
    assert difference(pixels, np.asarray(expected)) < 2


def test_transparency_lies_on_white():
    clear = Image.new("RGBA", (8, 6), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 4, 6))
    pixels = to_picture(encoded(clear, "PNG"), as_it_is).pixels
    assert (pixels[:, :4] == (0, 0, 255)).all()
    assert (pixels[:, 4:] == 255).all()


def test_what_cannot_be_read_is_refused():
    data = encoded(photograph("coffee"))
    with pytest.raises(ImageError, match="600x400 pixels, more than max_pixels=1000"):
        to_picture(data, as_it_is, max_pixels=1000)
    with pytest.raises(ImageError, match="is not a complete image"):
        to_picture(data[:5000], as_it_is)
    with pytest.raises(ImageError, match="is not an image"):
        to_picture(b"text", as_it_is)
