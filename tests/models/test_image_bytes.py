import io
import math
from functools import cache

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.photos import encoded, photographs
from visionserve.models.builds.graph import nodes_of, read_saved_model
from visionserve.vision.pixels import to_input

# The graph shrinks by the exact area filter, to_input by a quicker one whose pixels are a level or so off: an unsure
# answer moves by that. Measured: 0.021 on the photographs, 0.001 where an answer is 0.9 sure, 0.028 on the strip.
LARGEST_DIFFERENCE = 0.05

CHELSEA = photographs()["chelsea"]


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opencv(image, suffix):
    return cv2.imencode(suffix, image)[1].tobytes()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(CHELSEA), "JPEG", exif=exif)


@cache
def kinds_of_file():
    """Name -> an image file of the cat."""
    photo = Image.fromarray(CHELSEA)
    grey = cv2.cvtColor(CHELSEA, cv2.COLOR_RGB2GRAY)
    fading = np.tile(np.linspace(0, 255, CHELSEA.shape[1]).astype(np.uint8), (CHELSEA.shape[0], 1))
    files = {
        "grey JPEG": opencv(grey, ".jpg"),
        "grey PNG": opencv(grey, ".png"),
        "grey PNG with alpha": saved(Image.merge("LA", [photo.convert("L"), Image.fromarray(fading)]), "PNG"),
        "PNG with alpha": opencv(np.dstack([CHELSEA[..., ::-1], fading]), ".png"),
        "PNG of two colors": saved(photo.convert("1"), "PNG"),
        "PNG with a palette": saved(photo.quantize(64), "PNG"),
        "PNG with a small palette": saved(photo.quantize(16), "PNG"),
        "PNG with a transparent color": saved(photo.quantize(16), "PNG", transparency=3),
        "PNG of 16 bits": opencv(CHELSEA[..., ::-1].astype(np.uint16) * 257, ".png"),
        "progressive JPEG": saved(photo, "JPEG", progressive=True),
        "JPEG of 12 megapixels": opencv(cv2.resize(CHELSEA[..., ::-1], (4256, 2832)), ".jpg"),
        "JPEG of a narrow strip": opencv(cv2.resize(CHELSEA[..., ::-1], (900, 130)), ".jpg"),
        "PNG smaller than the crop": opencv(cv2.resize(CHELSEA[..., ::-1], (120, 80)), ".png"),
        "PNG of one pixel": opencv(CHELSEA[:1, :1], ".png"),
        "JPEG with damaged EXIF": saved(photo, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xf0\0\x02"),
    }
    return files | {f"JPEG of EXIF orientation {number}": turned(number) for number in range(1, 9)}


@pytest.fixture(scope="module")
def loaded(model):
    import tensorflow

    return tensorflow.saved_model.load(str(model / "1"))


@pytest.fixture(scope="module")
def by_bytes(loaded):
    """Encoded images -> classes [N] and probabilities [N, 1001]."""
    import tensorflow

    def answer(images):
        given = loaded.signatures["image_bytes"](image_bytes=tensorflow.constant(images))
        return given["classes"].numpy(), given["probabilities"].numpy()

    return answer


@pytest.fixture(scope="module")
def by_pixels(loaded):
    """Encoded images -> probabilities [N, 1000] of what to_input makes of them."""
    import tensorflow

    signature = loaded.signatures["serving_default"]

    def answer(images):
        pixels = np.stack([to_input(image) for image in images])
        return signature(input=tensorflow.constant(pixels))["output"].numpy()

    return answer


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_photographs_get_the_class_that_their_pixels_get(by_bytes, by_pixels, suffix):
    images = [encoded(photo, suffix) for photo in photographs().values()]
    classes, probabilities = by_bytes(images)
    wanted = by_pixels(images)
    differences = np.abs(probabilities[:, 1:] - wanted).max(axis=1)
    for name, sure, difference in zip(photographs(), wanted.max(axis=1), differences, strict=True):
        print(f"{name}{suffix}: probability {sure:.3f}, differs by {difference:.2g} at most")
    assert classes.tolist() == (wanted.argmax(axis=1) + 1).tolist()
    assert differences.max() <= LARGEST_DIFFERENCE
    assert len(set(classes.tolist())) > 8


@pytest.mark.parametrize(("name", "image"), kinds_of_file().items(), ids=kinds_of_file())
def test_every_kind_of_jpeg_and_png_is_read_as_the_pixels_are(by_bytes, by_pixels, name, image):
    [given], [wanted] = by_bytes([image])[1], by_pixels([image])
    difference = np.abs(given[1:] - wanted).max()
    print(f"{name}: probabilities differ by {difference:.2g} at most")
    assert given.argmax() == wanted.argmax() + 1
    assert difference <= LARGEST_DIFFERENCE


def test_classes_are_numbered_from_1_and_the_background_is_never_seen(by_bytes):
    classes, probabilities = by_bytes([encoded(CHELSEA), turned(6), encoded(CHELSEA, ".jpg")])
    assert classes.dtype == np.int64
    assert classes.tolist() == [286, 286, 286]
    assert probabilities[:, 0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("broken", [b"", b"hello", encoded(CHELSEA)[:9000], encoded(CHELSEA, ".jpg")[:9000]])
def test_an_image_that_is_not_one_fails_its_batch_as_an_invalid_argument(by_bytes, broken):
    import tensorflow

    with pytest.raises(tensorflow.errors.InvalidArgumentError):
        by_bytes([encoded(CHELSEA), broken])


def test_the_names_types_and_shapes_are_those_of_tensorflow_s_official_resnet(loaded):
    import tensorflow

    signature = loaded.signatures["image_bytes"]
    [given] = signature.structured_input_signature[1].values()
    assert (given.name, given.dtype, given.shape.as_list()) == ("image_bytes", tensorflow.string, [None])
    answers = {name: (spec.dtype.name, spec.shape.as_list()) for name, spec in signature.structured_outputs.items()}
    assert answers == {"classes": ("int64", [None]), "probabilities": ("float32", [None, 1001])}


def test_both_signatures_share_the_weights(model):
    constants = [node.attr["value"].tensor for node in nodes_of(read_saved_model(model / "1")) if node.op == "Const"]
    numbers = [math.prod(dim.size for dim in constant.tensor_shape.dim) for constant in constants]
    # Of the 25,636,712, what the 26,560 channels' normalizations had is folded into the others.
    assert sum(number for number in numbers if number >= 64) == 25_636_712 - 4 * 26_560
