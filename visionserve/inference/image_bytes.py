import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from visionserve.errors import InvalidInputError
from visionserve.inference.engine import Arrays, Signature, TensorSpec
from visionserve.inference.tensors import MAX_TENSOR_BYTES
from visionserve.vision.errors import ImageError

IMAGE_BYTES = "image_bytes"

Classify = Callable[[Arrays], Awaitable[Arrays]]


def image_bytes_of(classifier: Signature, threads: int) -> "ImageBytes | None":
    """The signature for encoded images of a model whose own `classifier` takes one uint8 [N, H, W, 3] and gives one
    float32 [N, K]; None for any other model. `threads`: how many images it decodes at once.
    """
    if len(classifier.inputs) != 1 or len(classifier.outputs) != 1:
        return None
    [(pixels, taken)], [(probabilities, given)] = classifier.inputs.items(), classifier.outputs.items()
    takes_images = taken.dtype == np.uint8 and len(taken.shape) == 4 and taken.shape[0] == -1 and taken.shape[3] == 3
    gives_classes = given.dtype == np.float32 and len(given.shape) == 2 and given.shape[0] == -1
    if not takes_images or not gives_classes or -1 in (*taken.shape[1:], *given.shape[1:]):
        return None
    return ImageBytes(pixels, taken.shape[1:3], probabilities, given.shape[1], threads)


class ImageBytes:
    """TensorFlow's official ResNet's signature for encoded images: `image_bytes`, string [N] -> `classes`, int64 [N],
    and `probabilities`, float32 [N, K + 1], where class 0 is a background whose probability is 0.

    The images are decoded here, so that these requests share batches with those that bring pixels.
    """

    def __init__(self, pixels: str, size: tuple[int, ...], probabilities: str, classes: int, threads: int) -> None:
        """`pixels`, `probabilities`: the model's own input and output; `size`: of its images, (H, W)."""
        self.signature = Signature(
            {IMAGE_BYTES: TensorSpec(np.dtype(object), (-1,))},
            {
                "classes": TensorSpec(np.dtype(np.int64), (-1,)),
                "probabilities": TensorSpec(np.dtype(np.float32), (-1, classes + 1)),
            },
        )
        self._pixels, self._probabilities = pixels, probabilities
        self._size = size
        self._threads = threads
        self._max_images = MAX_TENSOR_BYTES // (3 * size[0] * size[1])
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="decoder", initializer=_decode_on_one_thread)

    async def infer(self, inputs: Arrays, classify: Classify) -> dict[str, np.ndarray]:
        """inputs: `image_bytes`, objects [N], each `bytes` of an image file; `classify`: the model's own signature.

        Raises InvalidInputError naming the first image that is not one, and what `classify` raises.
        """
        self.signature.check(inputs)
        pixels = await self._decode(inputs[IMAGE_BYTES].tolist())
        outputs = await classify({self._pixels: pixels})
        classes = outputs[self._probabilities]
        probabilities = np.zeros([len(classes), classes.shape[1] + 1], classes.dtype)
        probabilities[:, 1:] = classes
        return {"classes": classes.argmax(axis=1).astype(np.int64) + 1, "probabilities": probabilities}

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def _decode(self, images: Sequence[bytes]) -> np.ndarray:
        """-> uint8 RGB [N, H, W, 3]."""
        if len(images) > self._max_images:
            raise InvalidInputError(
                f"image_bytes has {len(images)} images, more than {self._max_images}: send them in several requests."
            )
        loop = asyncio.get_running_loop()
        pixels = np.empty((len(images), *self._size, 3), np.uint8)
        rest = iter(enumerate(images))
        errors: dict[int, ImageError] = {}

        async def decode_in_turn() -> None:
            for index, image in rest:
                error = await loop.run_in_executor(self._executor, _decode_into, pixels[index], image)
                if error is not None:
                    errors[index] = error
                if errors:
                    return

        # No more than the decoders at work at once, so that another request's image waits for few of this one's.
        turns = [asyncio.ensure_future(decode_in_turn()) for _ in range(min(self._threads, len(images)))]
        try:
            await asyncio.gather(*turns)
        finally:
            for turn in turns:
                turn.cancel()
        if errors:
            first = min(errors)
            raise InvalidInputError(f"image_bytes[{first}] {errors[first]}.")
        return pixels


def _decode_on_one_thread() -> None:
    # Not imported before an encoded image comes: a server for the local runtime gets pixels, and stays smaller.
    import cv2

    cv2.setNumThreads(1)


def _decode_into(pixels: np.ndarray, image: bytes) -> ImageError | None:
    from visionserve.vision.pixels import to_input

    try:
        to_input(image, pixels.shape[:2], out=pixels)
    except ImageError as error:
        return error
    return None
