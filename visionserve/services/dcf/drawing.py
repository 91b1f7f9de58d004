import colorsys
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np

from visionserve.errors import UsageError
from visionserve.files import write_atomically
from visionserve.services.dcf.detector import FoundObject
from visionserve.vision.picture import to_picture

# Of the longer side: lines and letters that can be seen when the whole picture is.
LINE = 1 / 300
LETTERS = 1 / 1100
FONT = cv2.FONT_HERSHEY_SIMPLEX


def check_drawing(path: Path) -> None:
    """Raises UsageError where no image can be written under such a name."""
    if not path.suffix or not cv2.haveImageWriter(path.name):
        raise UsageError(f"--draw {path}: give a file whose name ends in .png or .jpg.")


def draw(data: bytes, objects: list[FoundObject], path: Path, max_pixels: int) -> None:
    """Writes the picture in `data` with each object's box, class and confidence, at its own size and upright."""
    pixels = to_picture(data, lambda height, width: (height, width), max_pixels).pixels
    image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    line = max(1, round(max(image.shape) * LINE))
    # The most confident one lies on top.
    for found in reversed(objects):
        corners = (found.xmin, found.ymin), (found.xmax - 1, found.ymax - 1)
        cv2.rectangle(image, *corners, _color(found.label), line)
    taken = np.zeros(image.shape[:2], bool)
    for found in objects:
        _write(image, found, line, taken)
    _, encoded = cv2.imencode(path.suffix, image)
    write_atomically(path, encoded.tobytes())


def _write(image: np.ndarray, found: FoundObject, line: int, taken: np.ndarray) -> None:
    """Class and confidence above the object's box, or the next free place below that; `taken`: [H, W], is updated."""
    size, thickness = max(0.4, max(image.shape) * LETTERS), line // 2 + 1
    text = f"{found.label} {found.confidence:.2f}"
    (width, height), below = cv2.getTextSize(text, FONT, size, thickness)
    left, height = max(0, min(found.xmin, image.shape[1] - width)), height + 2 * below
    top = max(0, found.ymin - height)
    while taken[top : top + height, left : left + width].any():
        top += height
    taken[top : top + height, left : left + width] = True
    cv2.rectangle(image, (left, top), (left + width, top + height), _color(found.label), cv2.FILLED)
    where = (left, top + height - below)
    cv2.putText(image, text, where, FONT, size, (255, 255, 255), thickness, cv2.LINE_AA)


def _color(label: str) -> tuple[float, float, float]:
    """BGR, the same for a class in every picture, dark enough for white letters."""
    red, green, blue = colorsys.hsv_to_rgb(crc32(label.encode()) % 360 / 360, 0.9, 0.65)
    return 255 * blue, 255 * green, 255 * red
