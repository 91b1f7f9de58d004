"""Real photographs that scikit-image's wheel carries, so that no test needs the network for them."""

from functools import cache

import cv2
import numpy as np
import skimage.data

COLOR = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "retina", "rocket")
GREY = ("camera", "clock", "coins", "moon")


@cache
def photographs() -> dict[str, np.ndarray]:
    """Name -> uint8 RGB [H, W, 3]; grey photographs have three equal channels."""
    photos = {name: getattr(skimage.data, name)() for name in COLOR}
    photos["motorcycle"] = skimage.data.stereo_motorcycle()[0]
    for name in GREY:
        photos[name] = cv2.cvtColor(getattr(skimage.data, name)(), cv2.COLOR_GRAY2RGB)
    return photos


def crops(count: int = 50) -> list[np.ndarray]:
    """`count` different squares cut from the photographs in turn, the same ones every time; uint8 RGB [S, S, 3]."""
    random = np.random.default_rng(20150512)
    photos = list(photographs().values())
    squares = []
    for index in range(count):
        photo = photos[index % len(photos)]
        height, width = photo.shape[:2]
        side = int(random.integers(min(height, width) // 2, min(height, width)))
        top, left = (
            int(random.integers(height - side + 1)),
            int(random.integers(width - side + 1)),
        )
        squares.append(np.ascontiguousarray(photo[top : top + side, left : left + side]))
    return squares


def encoded(photo: np.ndarray, suffix: str = ".png") -> bytes:
    """uint8 RGB [H, W, 3] -> the bytes of an image file; .png keeps every pixel."""
    done, data = cv2.imencode(suffix, photo[..., ::-1])
    assert done
    return data.tobytes()
