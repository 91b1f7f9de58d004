from typing import Any

from visionserve.models.builds.cpu.exif import exif_orientation
from visionserve.models.tensorflow import import_tensorflow

# The geometry of visionserve.vision.pixels.to_input: short side at 256, its central 224.
SIDE = 224
CENTRAL = 224 / 256
PNG = b"\x89PNG\r\n\x1a\n"
PNG_DEPTH_AT = 24


def decode_images(image_bytes: Any) -> Any:
    """Encoded JPEG or PNG, string [N] -> uint8 RGB [N, 224, 224, 3], for a server that runs nothing but the graph.

    The same part of the picture as visionserve.vision.pixels.to_input gives, shrunk by the exact area filter: upright
    by a JPEG's EXIF orientation, transparency on white, large JPEGs decoded at a reduced scale. All operations are
    TensorFlow 2.3's. The graph fails with InvalidArgumentError on what it cannot decode.
    """
    tensorflow = import_tensorflow()
    pixels = tensorflow.TensorSpec([SIDE, SIDE, 3], tensorflow.uint8)
    return tensorflow.map_fn(_decode_image, image_bytes, fn_output_signature=pixels)


def _decode_image(data: Any) -> Any:
    tensorflow = import_tensorflow()
    is_png = tensorflow.equal(tensorflow.strings.substr(data, 0, len(PNG)), PNG)
    return tensorflow.cond(is_png, lambda: _crop(_decode_png(data)), lambda: _upright(_crop(_decode_jpeg(data)), data))


def _decode_png(data: Any) -> Any:
    tensorflow = import_tensorflow()
    image = tensorflow.io.decode_png(data, channels=4)
    color, alpha = image[:, :, :3], image[:, :, 3:]
    # Where a file has no transparency, TensorFlow's alpha is the largest number of the file's own depth.
    depth = tensorflow.io.decode_raw(tensorflow.strings.substr(data, PNG_DEPTH_AT, 1), tensorflow.uint8)[0]
    # TensorFlow 1.15 has no minimum of uint8.
    largest = 2 ** tensorflow.minimum(tensorflow.cast(depth, tensorflow.int32), 8) - 1
    opaque = tensorflow.reduce_all(tensorflow.equal(alpha, tensorflow.cast(largest, tensorflow.uint8)))
    return tensorflow.cond(opaque, lambda: color, lambda: _on_white(color, alpha))


def _on_white(color: Any, alpha: Any) -> Any:
    tensorflow = import_tensorflow()
    color, alpha = tensorflow.cast(color, tensorflow.float32), tensorflow.cast(alpha, tensorflow.float32)
    return tensorflow.saturate_cast(tensorflow.round(255 - (255 - color) * alpha / 255), tensorflow.uint8)


def _decode_jpeg(data: Any) -> Any:
    tensorflow = import_tensorflow()
    size = tensorflow.cast(tensorflow.image.extract_jpeg_shape(data)[:2], tensorflow.float64)
    # As in to_input, twice the pixels that the crop needs are kept.
    spare = tensorflow.reduce_min(size) * CENTRAL / SIDE / 2

    def reduced(ratio: int) -> Any:
        return tensorflow.io.decode_jpeg(data, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")

    def at_most(ratio: int) -> Any:
        if ratio == 1:
            return reduced(1)
        # An operation's ratio is fixed, so that each has its own.
        return tensorflow.cond(spare >= ratio, lambda: reduced(ratio), lambda: at_most(ratio // 2))

    return at_most(8)


def _crop(image: Any) -> Any:
    """uint8 [H, W, 3] -> uint8 [224, 224, 3]."""
    tensorflow = import_tensorflow()
    size = tensorflow.shape(image)[:2]
    shortest = tensorflow.cast(tensorflow.reduce_min(size), tensorflow.float64)
    side = tensorflow.cast(tensorflow.round(shortest * CENTRAL), tensorflow.int32)
    side = tensorflow.maximum(side, 1)
    top, left = tensorflow.unstack((size - side) // 2)
    central = image[top : top + side, left : left + side]
    small = tensorflow.cond(
        side >= SIDE,
        lambda: tensorflow.image.resize(central, [SIDE, SIDE], "area"),
        lambda: tensorflow.image.resize(central, [SIDE, SIDE], "bilinear"),
    )
    return tensorflow.saturate_cast(tensorflow.round(small), tensorflow.uint8)


def _upright(image: Any, jpeg: Any) -> Any:
    """A square image turned by the EXIF orientation of its JPEG: 5..8 are transposed first, then flipped."""
    tensorflow = import_tensorflow()
    orientation = exif_orientation(jpeg)

    def where(orientations: list[int], change: Any, picture: Any) -> Any:
        applies = tensorflow.reduce_any(tensorflow.equal(orientation, orientations))
        return tensorflow.cond(applies, lambda: change(picture), lambda: picture)

    image = where([5, 6, 7, 8], lambda picture: tensorflow.transpose(picture, [1, 0, 2]), image)
    image = where([3, 4, 7, 8], lambda picture: tensorflow.reverse(picture, [0]), image)
    return where([2, 3, 6, 7], lambda picture: tensorflow.reverse(picture, [1]), image)
