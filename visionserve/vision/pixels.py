"""One encoded image -> the pixels that the network sees."""

from typing import Optional, Tuple

import cv2
import numpy as np

from visionserve.vision import jpeg
from visionserve.vision.decoding import DECODERS, MAX_PIXELS, checked_header, decode, opaque, upright
from visionserve.vision.header import Header
from visionserve.vision.shrink import resize

# ResNet's evaluation: the short side at 256 pixels, of which the central 224 are seen.
CENTRAL = 224 / 256
# How many times the needed side is kept of a reduced decoding. With fewer than two, labels start to differ from those
# of a full one; the half more costs pictures of 10 megapixels nothing.
SPARE = 2.5


def to_input(
    data: bytes,
    shape: Tuple[int, int] = (224, 224),
    max_pixels: int = MAX_PIXELS,
    out: Optional[np.ndarray] = None,
) -> np.ndarray:
    """`data`, a whole JPEG, PNG, WebP, BMP or GIF file -> uint8 [H, W, 3], RGB, of `shape` (H, W).

    `out`: where to put it, contiguous uint8 [H, W, 3], instead of a new array.

    The image is turned upright by its EXIF orientation, transparency is laid on white, and of the image shrunk
    by area until it just covers shape / 0.875 (short side 256 for 224x224) the center is taken: the 1-crop
    testing of He et al., "Deep Residual Learning for Image Recognition", 2015.
    ImageError, a predicate: not an image, cut off, or, seen before decoding, more than `max_pixels`.
    """
    data = bytes(data)
    header = checked_header(data, max_pixels)
    turned = header.orientation >= 5
    height, width = (shape[1], shape[0]) if turned else shape
    with DECODERS:
        small = _shrunk(data, header, height, width)
    return cv2.cvtColor(upright(small, header.orientation), cv2.COLOR_BGR2RGB, out)


def _shrunk(data: bytes, header: Header, height: int, width: int) -> np.ndarray:
    """The image's center, uint8 BGR [height, width, 3], as stored.

    A JPEG is decoded at 1/`factor` where that leaves enough. Of another format the same part is seen.
    """
    least = SPARE / CENTRAL * height, SPARE / CENTRAL * width
    if header.format == "JPEG":
        full = header.height, header.width
        factor = jpeg.reduction(full, least)
        image = decode(data, header, factor)
        rows, columns = _central(full, height, width, factor)
        source = image[rows.start // factor : rows.stop // factor, columns.start // factor : columns.stop // factor]
    else:
        image = decode(data, header)
        full = image.shape[0], image.shape[1]
        factor = jpeg.reduction(full, least)
        rows, columns = _central(full, height, width, factor)
        source = opaque(image[rows, columns], header)
    return resize(source, height, width, quick=factor == 1)


def _central(full: Tuple[int, int], height: int, width: int, grid: int) -> Tuple[slice, slice]:
    """Rows and columns of the part of an image of `full` (H, W) that the crop covers.

    They start and end on multiples of `grid` pixels, where a reduced image has pixels of its own: a crop half a pixel
    off would change more answers than the reduced decoding does.
    """
    scale = CENTRAL * min(full[0] / height, full[1] / width)
    rows, columns = (max(round(scale * side / grid) * grid, 1) for side in (height, width))
    top, left = (full[0] - rows) // (2 * grid) * grid, (full[1] - columns) // (2 * grid) * grid
    return slice(top, top + rows), slice(left, left + columns)
