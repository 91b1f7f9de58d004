from typing import Any

from visionserve.models.tensorflow import import_tensorflow

MARKER = b"Exif\0\0"
TAG = 0x0112
# As large as one segment may be; cameras write this one first.
SEARCHED_BYTES = 1 << 16
ENTRY_BYTES = 12


def exif_orientation(jpeg: Any) -> Any:
    """An encoded JPEG, string [] -> its orientation 1..8, int64 [], by TensorFlow's operations; 1 where it names none.

    The same as visionserve.vision.exif: tag 0x0112 of a TIFF structure's first image file directory (EXIF 2.3, 4.6.4).
    """
    tensorflow = import_tensorflow()
    head = tensorflow.io.decode_raw(tensorflow.strings.substr(jpeg, 0, SEARCHED_BYTES), tensorflow.uint8)
    # With zeros behind its end, whatever points there finds an empty directory.
    zeros = tensorflow.zeros([16], tensorflow.int64)
    head = tensorflow.concat([tensorflow.cast(head, tensorflow.int64), zeros], 0)
    places = tensorflow.size(head) - len(MARKER) + 1
    fits = [tensorflow.equal(head[shift : places + shift], byte) for shift, byte in enumerate(MARKER)]
    found = tensorflow.where(tensorflow.reduce_all(tensorflow.stack(fits), axis=0))[:, 0]
    end = tensorflow.size(head, out_type=tensorflow.int64)
    first = tensorflow.concat([found, [end]], 0)[0]
    return _orientation(tensorflow.concat([head[first + len(MARKER) :], zeros], 0))


def _orientation(tiff: Any) -> Any:
    tensorflow = import_tensorflow()
    little, big = tensorflow.equal(tiff[0], ord("I")), tensorflow.equal(tiff[0], ord("M"))

    def number(digits: Any, size: int) -> Any:
        weights = [1 << 8 * place for place in range(size)]
        ordered = tensorflow.where(little, tensorflow.constant(weights, tensorflow.int64), weights[::-1])
        return tensorflow.reduce_sum(digits * ordered, axis=-1)

    at = tensorflow.minimum(number(tiff[4:8], 4), tensorflow.size(tiff, out_type=tensorflow.int64) - 2)
    entries = tiff[at + 2 : at + 2 + ENTRY_BYTES * number(tiff[at : at + 2], 2)]
    whole = tensorflow.size(entries) // ENTRY_BYTES
    entries = tensorflow.reshape(entries[: whole * ENTRY_BYTES], [-1, ENTRY_BYTES])
    values = tensorflow.boolean_mask(number(entries[:, 8:10], 2), tensorflow.equal(number(entries[:, :2], 2), TAG))
    value = tensorflow.concat([values, [1]], 0)[0]
    valid = (little | big) & (value >= 1) & (value <= 8)
    return tensorflow.where(valid, value, tensorflow.ones_like(value))
