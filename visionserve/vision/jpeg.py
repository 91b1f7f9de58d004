from typing import Optional, Tuple

import cv2
import numpy as np

try:
    import simplejpeg
except ImportError:  # Cortex's own image does not have it
    simplejpeg = None

_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def reduction(full: Tuple[int, int], least: Tuple[float, float]) -> int:
    """The largest of 1, 2, 4 and 8 by which an image of `full` (H, W) can be divided so that `least` is left of it.

    These are the DCT scales that libjpeg-turbo has vector code for.
    """
    for factor in (8, 4, 2):
        if full[0] >= factor * least[0] and full[1] >= factor * least[1]:
            return factor
    return 1


def decode(data: bytes, full: Tuple[int, int], factor: int = 1) -> Optional[np.ndarray]:
    """A JPEG file of `full` (H, W) pixels -> uint8 BGR at 1/`factor` of its size, rounded up, as stored (EXIF's
    orientation is not applied); None when no decoder reads it."""
    image = None if simplejpeg is None else _quick(data, full, factor)
    if image is not None:
        return image
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None


def _quick(data: bytes, full: Tuple[int, int], factor: int) -> Optional[np.ndarray]:
    try:
        return simplejpeg.decode_jpeg(
            data,
            "BGR",
            min_height=-(-full[0] // factor),
            min_width=-(-full[1] // factor),
            min_factor=factor,
            strict=False,
        )
    except ValueError:
        return None  # CMYK, for one
