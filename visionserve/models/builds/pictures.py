"""What builds are checked on and calibrated with."""

import base64
import binascii
import json
from pathlib import Path

import cv2
import numpy as np

from visionserve.errors import UsageError
from visionserve.vision.errors import ImageError
from visionserve.vision.pixels import to_input

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
SIDE = 224


def sample_pixels(path: Path) -> np.ndarray:
    """The image in a {"img": "<base64>"} file -> uint8 RGB [224, 224, 3]. Raises UsageError naming what is wrong."""
    return _pixels(_sample_image(path), f"{path}: img")


def whole_sample(path: Path) -> np.ndarray:
    """The image in a {"img": "<base64>"} file as large as it is -> uint8 RGB [H, W, 3]. Raises as sample_pixels."""
    image = cv2.imdecode(np.frombuffer(_sample_image(path), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise UsageError(f"{path}: img is not an image")
    return np.ascontiguousarray(image[..., ::-1])


def sample_pictures(path: Path, count: int = 16) -> np.ndarray:
    """The image in a sample file, then squares cut out of it, the same ones every time -> uint8 RGB [N, 224, 224, 3].

    Raises UsageError naming what is wrong.
    """
    pictures = [sample_pixels(path)]
    image = whole_sample(path)
    height, width = image.shape[:2]
    random = np.random.default_rng(0)
    while len(pictures) < count:
        # Pictures to compare builds on, the same each time.
        side = int(min(height, width) * random.uniform(0.4, 1))  # nosec B311
        top, left = int(random.integers(height - side + 1)), int(random.integers(width - side + 1))
        square = image[top : top + side, left : left + side]
        pictures.append(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    return np.stack(pictures)


def folder_pictures(folder: Path, most: int | None = None) -> np.ndarray:
    """The images in a folder and those below it, by name -> uint8 RGB [N, 224, 224, 3]; no more than `most`, which are
    then spread evenly over all of them, since folders are often sorted by class.

    Raises UsageError where there is none, or naming the file that is not an image.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise UsageError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    count = len(files) if most is None else min(most, len(files))
    chosen = [files[index * len(files) // count] for index in range(count)]
    return np.stack([_pixels(path.read_bytes(), str(path)) for path in chosen])


def _pixels(data: bytes, where: str) -> np.ndarray:
    try:
        return to_input(data)
    except ImageError as error:
        raise UsageError(f"{where} {error}") from error


def _sample_image(path: Path) -> bytes:
    try:
        return base64.b64decode(json.loads(path.read_text(encoding="utf-8"))["img"], validate=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name a sample with --sample") from error
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError, binascii.Error) as error:
        raise UsageError(f'{path} is not a {{"img": "<base64 image>"}} file; name another with --sample') from error
