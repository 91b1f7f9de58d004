"""One encoded image -> the whole of it at another size, and the size that it had."""

from typing import Callable, NamedTuple, Tuple

import cv2
import numpy as np

from visionserve.vision import jpeg
from visionserve.vision.decoding import DECODERS, MAX_PIXELS, checked_header, decode, opaque, upright
from visionserve.vision.shrink import resize

Size = Tuple[int, int]


class Picture(NamedTuple):
    """`pixels`: uint8 RGB [H, W, 3]; `height`, `width`: of the original in pixels. Both are upright."""

    pixels: np.ndarray
    height: int
    width: int


def to_picture(data: bytes, wanted: Callable[[int, int], Size], max_pixels: int = MAX_PIXELS) -> Picture:
    """`data`: a whole JPEG, PNG, WebP, BMP or GIF file; `wanted`: the original's (height, width) -> the pixels' (H, W).

    The image is turned upright by its EXIF orientation, and transparency is laid on white. A JPEG is decoded at a
    reduced scale where that leaves as much as is wanted.
    ImageError, a predicate: not an image, cut off, or, seen before decoding, more than `max_pixels`.
    """
    data = bytes(data)
    header = checked_header(data, max_pixels)
    turned = header.orientation >= 5

    def swapped(height: int, width: int) -> Size:
        return (width, height) if turned else (height, width)

    with DECODERS:
        if header.format == "JPEG":
            full = header.height, header.width
            target = swapped(*wanted(*swapped(*full)))
            source = decode(data, header, jpeg.reduction(full, target))
        else:
            source = opaque(decode(data, header), header)
            full = source.shape[0], source.shape[1]
            target = swapped(*wanted(*swapped(*full)))
        pixels = cv2.cvtColor(upright(_resized(source, *target), header.orientation), cv2.COLOR_BGR2RGB)
    height, width = swapped(*full)
    return Picture(pixels, height, width)


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    if min(image.shape[0] / height, image.shape[1] / width) < 2:
        # Bilinear interpolation still sees every pixel, in a fifth of the time that the area filter takes.
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resize(image, height, width, quick=True)
