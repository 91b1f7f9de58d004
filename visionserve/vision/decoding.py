"""An encoded image -> its pixels, for whatever is then made of them."""

import os
import threading
from typing import Optional

import cv2
import numpy as np

from visionserve.vision import jpeg
from visionserve.vision.errors import ImageError
from visionserve.vision.header import Header, read_header
from visionserve.vision.png_header import without_texts

MAX_PIXELS = 50000000
# A pixel of 16 bits and four channels takes nearly three times the memory of other ones, which are decoded to 8 bits.
DEEP = 3
# A large image is decoded only if its file holds something of it: photographs have 2 to 10 pixels in a byte, scanned
# text and screenshots up to 200, while 50 megapixels of nothing at all take 2 kB.
LARGE = 16000000
MOST_PIXELS_PER_BYTE = 256
# Bytes of compressed texts in a PNG that libpng may inflate, a thousandfold at worst.
MAX_TEXTS = 1 << 14
# More threads than cores would only take turns, each with a decoded picture in memory.
DECODERS = threading.BoundedSemaphore(
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)


def checked_header(data: bytes, max_pixels: int) -> Header:
    """ImageError, a predicate: not an image, cut off, or more than `max_pixels`."""
    header = read_header(data)
    pixels = header.width * header.height
    if header.depth == 16 and header.alpha and pixels <= max_pixels < pixels * DEEP:
        raise ImageError(
            "has {0.width}x{0.height} pixels of 16 bits with transparency, which count {1}fold, more than "
            "max_pixels={2}: send 8 bits or a smaller image".format(header, DEEP, max_pixels)
        )
    if pixels > max_pixels:
        raise ImageError(
            "has {0.width}x{0.height} pixels, more than max_pixels={1}: send a smaller image".format(header, max_pixels)
        )
    if pixels > LARGE and len(data) * MOST_PIXELS_PER_BYTE < pixels:
        raise ImageError(
            "has {0.width}x{0.height} pixels in {1} bytes, too few for a picture: send a smaller image".format(
                header, len(data)
            )
        )
    if not header.complete:
        raise ImageError("is not a complete image: its {} data are cut off".format(header.format))
    return header


def decode(data: bytes, header: Header, factor: int = 1) -> np.ndarray:
    """-> the image as stored: BGR, and for another format than JPEG perhaps BGRA or grey, 8 or 16 bits (see opaque).

    `factor`: 1, 2, 4 or 8, of a JPEG; it is decoded at 1/`factor` of its size. ImageError when no decoder reads it.
    """
    if header.format == "JPEG":
        image = jpeg.decode(data, (header.height, header.width), factor)
    else:
        image = _decode(data, header)
    if image is None:
        # OpenCV before 4.11 reads no GIF.
        raise ImageError(
            "is a {} file that OpenCV {} cannot decode: save it anew as JPEG or PNG".format(
                header.format, cv2.__version__
            )
        )
    return image


def opaque(image: np.ndarray, header: Header) -> np.ndarray:
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


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF orientation 1..8 undone: 5..8 are transposed first, then flipped."""
    if orientation >= 5:
        image = cv2.transpose(image)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if flip is None else cv2.flip(image, flip)


def _decode(data: bytes, header: Header) -> Optional[np.ndarray]:
    if header.texts > MAX_TEXTS:
        data = without_texts(data)
    flags = cv2.IMREAD_UNCHANGED if header.alpha else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _matches(image: np.ndarray, header: Header) -> np.ndarray:
    assert header.color_key is not None
    factor = 255 // (2**header.depth - 1) if header.depth < 8 else 1
    key = [sample * factor for sample in header.color_key]
    if image.ndim == 2:
        return image == key[0]
    return (image == np.array(key[:1] * 3 if len(key) == 1 else key[::-1], image.dtype)).all(axis=2)
