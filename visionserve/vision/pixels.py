"""One encoded image -> the pixels that the network sees."""

from typing import Tuple

import cv2
import numpy as np

from visionserve.vision.errors import ImageError
from visionserve.vision.header import Header, read_header

MAX_PIXELS = 50000000
# ResNet's evaluation: the short side at 256 pixels, of which the central 224 are seen.
CENTRAL = 224 / 256

_REDUCED = ((8, cv2.IMREAD_REDUCED_COLOR_8), (4, cv2.IMREAD_REDUCED_COLOR_4), (2, cv2.IMREAD_REDUCED_COLOR_2))


def to_input(data: bytes, shape: Tuple[int, int] = (224, 224), max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """`data`, a whole JPEG, PNG, WebP, BMP or GIF file -> uint8 [H, W, 3], RGB, of `shape` (H, W).

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
    source = _central(_decode(data, header, height, width), height, width)
    if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8:
        source = _opaque(source, header)
    shrinks = source.shape[0] >= height and source.shape[1] >= width
    small = cv2.resize(source, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return cv2.cvtColor(_upright(small, header.orientation), cv2.COLOR_BGR2RGB)


def _decode(data: bytes, header: Header, height: int, width: int) -> np.ndarray:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    if header.alpha:
        flags = cv2.IMREAD_UNCHANGED
    elif header.format == "JPEG":
        # Twice the needed pixels are kept: with fewer, labels start to differ from those of a full decode.
        spare = min(header.height * CENTRAL / height, header.width * CENTRAL / width) / 2
        for factor, reduced in _REDUCED:
            if spare >= factor:
                flags = reduced | cv2.IMREAD_IGNORE_ORIENTATION
                break
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        # OpenCV before 4.11 reads no GIF.
        raise ImageError(
            "is a {} file that OpenCV {} cannot decode: save it anew as JPEG or PNG".format(
                header.format, cv2.__version__
            )
        )
    return image


def _central(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The part of the source that the crop covers, so that only it is resized."""
    scale = CENTRAL * min(image.shape[0] / height, image.shape[1] / width)
    rows = min(max(round(scale * height), 1), image.shape[0])
    columns = min(max(round(scale * width), 1), image.shape[1])
    top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
    return image[top : top + rows, left : left + columns]


def _opaque(image: np.ndarray, header: Header) -> np.ndarray:
    """8- or 16-bit grey, BGR or BGRA -> 8-bit BGR on white."""
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
