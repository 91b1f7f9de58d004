"""SavedModels with the inputs and outputs of TensorFlow's detection model zoo, which cannot be downloaded here.

They find red, green and blue rectangles (classes 1, 17 and 47), so that every box they give can be known beforehand.
"""

from pathlib import Path

COLORS = {1: (255, 0, 0), 17: (0, 255, 0), 47: (0, 0, 255)}
# The first is one tensor with detection_boxes, as the zoo's models have where nothing was changed on the way.
EXTRAS = ("all_detection_boxes", "raw_detection_scores", "detection_anchor_indices")


def write_stand_in(
    folder: Path,
    shape: tuple[int | None, int | None, int | None] = (1, None, None),
    input_name: str = "input_tensor",
    dtype: str = "uint8",
    extras: bool = False,
    loop: bool = False,
    openvino_lacks: bool = False,
    all_count: bool = False,
    without: str = "",
) -> Path:
    """`shape`: of the input but its 3 channels, None for an open dimension; `extras`: with further outputs, as the
    zoo's models have; `loop`: with control flow, as their pre-processing has; `openvino_lacks`: with an operation that
    OpenVINO does not know; `all_count`: always gives 100 as the number of objects, as detectors without suppression
    do; `without`: lacks an output."""
    import tensorflow as tf

    def found(image: tf.Tensor, color: tuple[int, int, int]) -> tuple[tf.Tensor, tf.Tensor]:
        mask = tf.reduce_all(tf.abs(image - tf.constant(color, tf.float32)) < 80.0, axis=-1)
        sides = []
        for axis in (0, 1):
            line = tf.cast(tf.reduce_any(mask, axis=1 - axis), tf.int32)
            size = tf.size(line)
            sides += [tf.argmax(line, output_type=tf.int32) / size]
            sides += [(size - tf.argmax(tf.reverse(line, [0]), output_type=tf.int32)) / size]
        top, bottom, left, right = sides
        box = tf.cast(tf.stack([top, left, bottom, right]), tf.float32)
        return box, tf.cast(tf.reduce_any(mask), tf.float32)

    def detect(images: tf.Tensor) -> dict[str, tf.Tensor]:
        floats = tf.cast(images, tf.float32)
        image = tf.map_fn(lambda one: one + 0.0, floats)[0] if loop else floats[0]
        if openvino_lacks:
            image = tf.reshape(tf.io.parse_tensor(tf.io.serialize_tensor(image), tf.float32), tf.shape(image))
        boxes, scores, classes = [], [], []
        for number, (label, color) in enumerate(COLORS.items()):
            box, score = found(image, color)
            # The second lies a little beside the first, as before non-maximum suppression; the third is unsure.
            boxes += [box, box + tf.constant([0.0, 0.02, 0.0, 0.02]), box]
            scores += [score * (0.9 - 0.1 * number), score * 0.55, score * 0.1]
            classes += [label, label, label + 1]
        order = tf.argsort(tf.stack(scores), direction="DESCENDING", stable=True)
        padding = 100 - len(scores)
        outputs = {
            "detection_boxes": tf.pad(tf.gather(tf.stack(boxes), order), [[0, padding], [0, 0]])[None],
            "detection_scores": tf.pad(tf.gather(tf.stack(scores), order), [[0, padding]])[None],
            "detection_classes": tf.pad(tf.gather(tf.constant(classes, tf.float32), order), [[0, padding]])[None],
            "num_detections": tf.reduce_sum(tf.cast(tf.stack(scores) > 0, tf.float32))[None],
        }
        if all_count:
            outputs["num_detections"] = tf.constant([100.0])
        if extras:
            outputs |= dict(zip(EXTRAS, (outputs["detection_boxes"], scores[0][None, None], order[None]), strict=True))
        outputs.pop(without, None)
        return outputs

    module = tf.Module()
    spec = tf.TensorSpec((*shape, 3), dtype, name=input_name)
    module.detect = tf.function(detect, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.detect.get_concrete_function()})
    return folder
