from pathlib import Path
from typing import Any

from visionserve.errors import ModelError
from visionserve.models.builds.detector.coco import coco_classes
from visionserve.models.builds.detector.network import SIDE, Network
from visionserve.models.builds.manifest import Signature, Tensor
from visionserve.models.tensorflow import import_tensorflow

OBJECTS = 100
STRIDE = 4
# As TensorFlow's detection model zoo has it.
SIGNATURE = Signature(
    name="serving_default",
    inputs=[Tensor(name="input_tensor", dtype="uint8", shape=[1, None, None, 3])],
    outputs=[
        Tensor(name="detection_boxes", dtype="float32", shape=[1, OBJECTS, 4]),
        Tensor(name="detection_scores", dtype="float32", shape=[1, OBJECTS]),
        Tensor(name="detection_classes", dtype="float32", shape=[1, OBJECTS]),
        Tensor(name="num_detections", dtype="float32", shape=[1]),
    ],
)


def write_saved_model(network: Network, folder: Path) -> None:
    """Writes the detector as a SavedModel without variables; see export_detector. Raises ModelError."""
    tensorflow = import_tensorflow()

    def serve(input_tensor: Any) -> dict[str, Any]:
        images, offset, size = _letterbox(input_tensor)
        boxes, scores, classes = _objects(*network.heads(images))
        boxes = (boxes - tensorflow.tile(offset, [2])) / tensorflow.tile(size, [2])
        outputs = {
            "detection_boxes": boxes,
            "detection_scores": scores,
            "detection_classes": classes,
            # Counted, for OpenVINO leaves out an output that is a constant.
            "num_detections": tensorflow.reduce_sum(tensorflow.cast(scores > 0, tensorflow.float32)),
        }
        return {name: tensor[tensorflow.newaxis] for name, tensor in outputs.items()}

    [picture] = SIGNATURE.inputs
    specification = tensorflow.TensorSpec(picture.shape, picture.dtype, picture.name)
    function = tensorflow.function(serve, input_signature=[specification], autograph=False)
    try:
        tensorflow.saved_model.save(tensorflow.Module(), str(folder), signatures={SIGNATURE.name: function})
    except tensorflow.errors.OpError as error:
        raise ModelError(f"TensorFlow could not write the SavedModel: {error.message}") from error


def _letterbox(picture: Any) -> tuple[Any, Any, Any]:
    """uint8 [1, H, W, 3] -> float32 [1, 512, 512, 3] with the whole picture in its middle, on black; where its top left
    corner is there, and its size there, both float32 [2] = y, x.

    Its makers keep the aspect ratio of pictures so (preprocess of their FaceDetector, lib/core/api). Stretched to a
    square, the sample's cat, 451 pixels wide and 300 high, is a dog to the network.
    """
    tensorflow = import_tensorflow()
    full = tensorflow.shape(picture)[1:3]
    longest = tensorflow.reduce_max(full)
    size = tensorflow.maximum((full * SIDE + longest // 2) // longest, 1)
    # tensorflow.image.resize does the same with many more operations.
    small = tensorflow.raw_ops.ResizeBilinear(
        images=tensorflow.cast(picture, tensorflow.float32), size=size, half_pixel_centers=True
    )
    before = (SIDE - size) // 2
    margins = tensorflow.stack([before, SIDE - size - before], axis=1)
    framed = tensorflow.pad(small, tensorflow.concat([[[0, 0]], margins, [[0, 0]]], axis=0))
    # So that every shape from here on is known before the picture's is.
    images = tensorflow.reshape(framed, [1, SIDE, SIDE, 3])
    return images, tensorflow.cast(before, tensorflow.float32), tensorflow.cast(size, tensorflow.float32)


def _objects(keypoints: Any, distances: Any) -> tuple[Any, Any, Any]:
    """The network's heads -> boxes [100, 4] = ymin, xmin, ymax, xmax in pixels, scores [100] falling, classes [100].

    As the network's own detections are made: a place that is surer than its neighbors is an object's center. But the
    100 surest places are found first and the 100 surest of their classes then, which are the same and 80 times fewer
    to sort: OpenVINO needs 8 ms for them, and 440 ms for all of them at once.
    """
    tensorflow = import_tensorflow()
    side, classes = keypoints.shape[1], keypoints.shape[3]
    highest = tensorflow.nn.max_pool2d(keypoints, ksize=3, strides=1, padding="SAME")
    peaks = keypoints * tensorflow.cast(tensorflow.equal(keypoints, highest), tensorflow.float32)
    peaks = tensorflow.reshape(peaks, [side * side, classes])
    _, places = tensorflow.math.top_k(tensorflow.reduce_max(peaks, axis=1), OBJECTS)
    scores, best = tensorflow.math.top_k(tensorflow.reshape(tensorflow.gather(peaks, places), [-1]), OBJECTS)
    place = tensorflow.gather(places, best // classes)
    center = tensorflow.cast(tensorflow.stack([place // side, place % side], axis=1) * STRIDE, tensorflow.float32)
    reach = tensorflow.gather(tensorflow.reshape(distances, [side * side, 4]), place)
    left, top, right, bottom = tensorflow.unstack(reach, axis=1)
    boxes = tensorflow.concat(
        [center - tensorflow.stack([top, left], axis=1), center + tensorflow.stack([bottom, right], axis=1)], axis=1
    )
    ids = tensorflow.constant(list(coco_classes()), tensorflow.float32)
    return boxes, scores, tensorflow.gather(ids, best % classes)
