from typing import NamedTuple, Optional, Tuple

from visionserve.vision.errors import ImageError

# No camera or editor comes near it; a file made of empty parts would keep a thread busy for seconds.
MAX_PARTS = 20000


class Header(NamedTuple):
    """`width` and `height` in pixels as stored, before `orientation` (EXIF's 1..8) is applied.

    `alpha`: pixels may be transparent; `color_key`: the one transparent color of a PNG without an alpha
    channel (grey or RGB samples at `depth` bits); `complete`: the data reach as far as the format says, and can be
    enough for so many pixels; `texts`: bytes of a PNG's compressed texts and profiles.
    """

    format: str
    width: int
    height: int
    alpha: bool = False
    orientation: int = 1
    complete: bool = True
    color_key: Optional[Tuple[int, ...]] = None
    depth: int = 8
    texts: int = 0


def too_many_parts() -> ImageError:
    return ImageError("is not an image that is read here: it is cut into too many parts")
