"""Real photographs, encoded in every way a client may send them, and the pixels a careful reference gives."""

import io
from functools import cache

import numpy as np
import skimage.data
from PIL import Image, ImageOps


@cache
def photograph(name="chelsea", size=None, resample=Image.LANCZOS):
    image = Image.fromarray(getattr(skimage.data, name)())
    return image if size is None else image.resize(size, resample)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    if kind == "JPEG":
        options.setdefault("quality", 95)
    image.save(file, kind, **options)
    return file.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def reference(image, shape=(224, 224)):
    """Pillow's own way there: upright, on white, shrunk by area until it covers shape / 0.875, then the center."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    height, width = shape
    scale = max(height / 0.875 / image.height, width / 0.875 / image.width)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.BOX)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return np.asarray(image.crop((left, top, left + width, top + height)))


def difference(pixels, expected):
    """Mean absolute difference, in levels of 0..255."""
    return float(np.abs(pixels.astype(int) - expected.astype(int)).mean())
