"""One encoded image -> the pixels that the network sees."""

import os
import threading
from typing import Optional, Tuple

import cv2
import numpy as np

from visionserve.vision import jpeg
from visionserve.vision.errors import ImageError
from visionserve.vision.header import Header, read_header
from visionserve.vision.shrink import resize

MAX_PIXELS = 50000000
# ResNet's evaluation: the short side at 256 pixels, of which the central 224 are seen.
CENTRAL = 224 / 256
# How many times the needed side is kept of a reduced decoding. With fewer than two, labels start to differ from those
# of a full one; the half more costs pictures of 10 megapixels nothing.
SPARE = 2.5
# More threads than cores would only take turns, each with a decoded picture in memory.
_CORES = threading.BoundedSemaphore(
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)


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
    header = read_header(data)
    if header.width * header.height > max_pixels:
        raise ImageError(
            "has {0.width}x{0.height} pixels, more than max_pixels={1}: send a smaller image".format(header, max_pixels)
        )
    if not header.complete:
        raise ImageError("is not a complete image: its {} data are cut off".format(header.format))
    turned = header.orientation >= 5
    height, width = (shape[1], shape[0]) if turned else shape
    with _CORES:
        small = _shrunk(data, header, height, width)
    return cv2.cvtColor(_upright(small, header.orientation), cv2.COLOR_BGR2RGB, out)


def _shrunk(data: bytes, header: Header, height: int, width: int) -> np.ndarray:
    """The image's center, uint8 BGR [height, width, 3], as stored.

    A JPEG is decoded at 1/`factor` where that leaves enough. Of another format the same part is seen.
    """
    least = SPARE / CENTRAL * height, SPARE / CENTRAL * width
    if header.format == "JPEG":
        full = header.height, header.width
        factor = jpeg.reduction(full, least)
        image = _readable(jpeg.decode(data, full, factor), header)
        rows, columns = _central(full, height, width, factor)
        source = image[rows.start // factor : rows.stop // factor, columns.start // factor : columns.stop // factor]
    else:
        image = _readable(_decode(data, header), header)
        full = image.shape[0], image.shape[1]
        factor = jpeg.reduction(full, least)
        rows, columns = _central(full, height, width, factor)
        source = _opaque(image[rows, columns], header)
    return resize(source, height, width, quick=factor == 1)


def _decode(data: bytes, header: Header) -> Optional[np.ndarray]:
    flags = cv2.IMREAD_UNCHANGED if header.alpha else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _readable(image: Optional[np.ndarray], header: Header) -> np.ndarray:
    if image is None:
        # OpenCV before 4.11 reads no GIF.
        raise ImageError(
            "is a {} file that OpenCV {} cannot decode: save it anew as JPEG or PNG".format(
                header.format, cv2.__version__
            )
        )
    return image


def _central(full: Tuple[int, int], height: int, width: int, grid: int) -> Tuple[slice, slice]:
    """Rows and columns of the part of an image of `full` (H, W) that the crop covers.

    They start and end on multiples of `grid` pixels, where a reduced image has pixels of its own: a crop half a pixel
    off would change more answers than the reduced decoding does.
    """
    scale = CENTRAL * min(full[0] / height, full[1] / width)
    rows, columns = (max(round(scale * side / grid) * grid, 1) for side in (height, width))
    top, left = (full[0] - rows) // (2 * grid) * grid, (full[1] - columns) // (2 * grid) * grid
    return slice(top, top + rows), slice(left, left + columns)


def _opaque(image: np.ndarray, header: Header) -> np.ndarray:
    """8- or 16-bit grey, BGR or BGRA -> 8-bit BGR on white."""
    if image.dtype == np.uint8 and image.shape[2:] == (3,) and header.color_key is None:
        return image
    transparent = None
    if header.color_key is not None and (image.ndim == 2 or image.shape[2] < 4):
        transparent = _matches(image, header)
    if image.dtype != np.uint8:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if transparent is not None:
        image = image.copy()
        image[transparent] = 255
    if image.shape[2] == 3:
        return image
    color, alpha = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR), image[:, :, 3]
    if alpha.min() == 255:
        return color
    # On white: 255 - (255 - color) * alpha / 255.
    opacity = cv2.cvtColor(alpha, cv2.COLOR_GRAY2BGR)
    return cv2.bitwise_not(cv2.multiply(cv2.bitwise_not(color), opacity, scale=1 / 255))


def _matches(image: np.ndarray, header: Header) -> np.ndarray:
    assert header.color_key is not None
    factor = 255 // (2**header.depth - 1) if header.depth < 8 else 1
    key = [sample * factor for sample in header.color_key]
    if image.ndim == 2:
        return image == key[0]
    return (image == np.array(key[:1] * 3 if len(key) == 1 else key[::-1], image.dtype)).all(axis=2)


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF orientation 1..8 undone: 5..8 are transposed first, then flipped."""
    if orientation >= 5:
        image = cv2.transpose(image)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if flip is None else cv2.flip(image, flip)
