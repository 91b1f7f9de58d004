import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import visionserve
from visionserve.errors import ModelError
from visionserve.models.builds.compatibility import make_loadable_by_tensorflow_2_3
from visionserve.models.builds.folder import build_written_atomically, size
from visionserve.models.builds.image_bytes import decode_images
from visionserve.models.builds.manifest import Manifest, Signature, Tensor, WeightsOrigin, file_hashes, read_manifest
from visionserve.models.resnet50 import MEAN_BGR, build_resnet50, classify_with_keras
from visionserve.models.tensorflow import import_keras, import_tensorflow
from visionserve.models.weights import Weights
from visionserve.vision.labels import IMAGENET_CLASSES, load_classes, top_k

# To be raised with every change of what export_cpu writes for the same weights.
RECIPE = 2
LARGEST_DIFFERENCE = 1e-4
SIGNATURE = Signature(
    name="serving_default",
    inputs=[Tensor(name="input", dtype="uint8", shape=[None, 224, 224, 3])],
    outputs=[Tensor(name="output", dtype="float32", shape=[None, 1000])],
)
IMAGE_BYTES = Signature(
    name="image_bytes",
    inputs=[Tensor(name="image_bytes", dtype="string", shape=[None])],
    outputs=[
        Tensor(name="classes", dtype="int64", shape=[None]),
        Tensor(name="probabilities", dtype="float32", shape=[None, 1001]),
    ],
)


@dataclass(frozen=True)
class Exported:
    """`labels`: the sample's five likeliest (label, probability). `difference`: the largest to what Keras gives."""

    folder: Path
    labels: list[tuple[str, float]]
    difference: float

    @property
    def size(self) -> int:
        """In bytes."""
        return size(self.folder)


def is_exported(weights: Weights, folder: Path) -> bool:
    """Whether `folder` holds, whole, what export_cpu would write there for `weights`."""
    try:
        manifest = read_manifest(folder)
    except ModelError:
        return False
    return (
        (manifest.model, manifest.target, manifest.recipe) == ("resnet50", "cpu", RECIPE)
        and manifest.weights.sha256 == weights.sha256
        and manifest.weights.epsilon == weights.epsilon
        and manifest.versions.get("visionserve") == visionserve.__version__
        and manifest.describes(folder)
    )


def export_cpu(weights: Weights, folder: Path, sample: np.ndarray) -> Exported:
    """Writes ResNet50 as a SavedModel whose `serving_default` takes uint8 RGB [N, 224, 224, 3] as `input`, N being
    open, and gives float32 probabilities [N, 1000] as `output`.

    Its `image_bytes` takes encoded JPEG or PNG, string [N], as `image_bytes`, the name that TensorFlow's official
    ResNet gives it (image_bytes_serving_input_fn), and gives as that one does `classes`, int64 [N], 1..1000, and
    `probabilities`, float32 [N, 1001], both with a background before ImageNet's classes.
    Before it takes its place at `folder` it is loaded back and must give for `sample`, uint8 RGB [224, 224, 3],
    what Keras gives: else ModelError, and what was at `folder` stays. UsageError where `folder` is something else.
    """
    with build_written_atomically(folder) as work:
        classes = load_classes(IMAGENET_CLASSES)
        model = build_resnet50(weights)
        _write(model, work)
        labels, difference = _check(model, work, sample[np.newaxis], classes)
        _manifest(weights, work, classes).write(work)
    return Exported(folder, labels, difference)


def _write(model: Any, folder: Path) -> None:
    tensorflow = import_tensorflow()

    def serve(input: Any) -> dict[str, Any]:
        bgr = tensorflow.reverse(tensorflow.cast(input, tensorflow.float32), axis=[-1])
        return {"output": model(bgr - tensorflow.constant(MEAN_BGR), training=False)}

    def serve_encoded(image_bytes: Any) -> dict[str, Any]:
        probabilities = default(decode_images(image_bytes))["output"]
        return {
            "classes": tensorflow.argmax(probabilities, axis=-1) + 1,
            "probabilities": tensorflow.pad(probabilities, [[0, 0], [1, 0]]),
        }

    default = tensorflow.function(serve, input_signature=_input_signature(SIGNATURE))
    encoded = tensorflow.function(serve_encoded, input_signature=_input_signature(IMAGE_BYTES), autograph=False)
    # Only the variables: keras.export.ExportArchive writes every one of them twice.
    module = tensorflow.Module()
    module.variables_of_model = [variable.value for variable in model.variables]
    signatures = {SIGNATURE.name: default, IMAGE_BYTES.name: encoded}
    try:
        tensorflow.saved_model.save(module, str(folder), signatures=signatures)
    except tensorflow.errors.OpError as error:
        raise ModelError(f"TensorFlow could not write the SavedModel: {error.message}") from error
    make_loadable_by_tensorflow_2_3(folder)


def _input_signature(signature: Signature) -> list[Any]:
    tensorflow = import_tensorflow()
    return [tensorflow.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in signature.inputs]


def _check(model: Any, folder: Path, pixels: np.ndarray, classes: list[str]) -> tuple[list[tuple[str, float]], float]:
    tensorflow = import_tensorflow()
    loaded = tensorflow.saved_model.load(str(folder))
    given = loaded.signatures[SIGNATURE.name](input=tensorflow.constant(pixels))["output"].numpy()
    wanted = classify_with_keras(model, pixels)
    difference = float(np.abs(given - wanted).max())
    [labels], [keras_labels] = top_k(given, classes), top_k(wanted, classes)
    # Written so that a NaN fails too.
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"the exported model's probabilities differ from Keras's by {difference:.2g}, so it was discarded"
        )
    if [label for label, _ in labels] != [label for label, _ in keras_labels]:
        raise ModelError(f"the exported model says {labels} where Keras says {keras_labels}, so it was discarded")
    _check_encoded(loaded.signatures[IMAGE_BYTES.name], pixels, given)
    return labels, difference


def _check_encoded(image_bytes: Any, pixels: np.ndarray, wanted: np.ndarray) -> None:
    tensorflow = import_tensorflow()
    # Laid around the crop, this margin is what the signature cuts off again, so that it sees the same pixels.
    margin = (256 - pixels.shape[1]) // 2
    framed = np.pad(pixels, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    given = image_bytes(image_bytes=tensorflow.stack([tensorflow.io.encode_png(image) for image in framed]))
    difference = float(np.abs(given["probabilities"].numpy()[:, 1:] - wanted).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelError(
            f"the exported model's probabilities for the encoded sample differ by {difference:.2g} from those for its "
            f"pixels, so it was discarded"
        )
    if given["classes"].numpy().tolist() != (wanted.argmax(axis=1) + 1).tolist():
        raise ModelError(
            "the exported model's classes for the encoded sample are not its likeliest, so it was discarded"
        )


def _manifest(weights: Weights, folder: Path, classes: list[str]) -> Manifest:
    tensorflow, keras = import_tensorflow(), import_keras()
    return Manifest(
        model="resnet50",
        target="cpu",
        recipe=RECIPE,
        created=datetime.now(timezone.utc),
        weights=WeightsOrigin(
            source=weights.source,
            sha256=weights.sha256,
            epsilon=weights.epsilon,
            parameters=weights.parameters,
        ),
        versions={
            "visionserve": visionserve.__version__,
            "tensorflow": tensorflow.__version__,
            "keras": keras.__version__,
            "python": platform.python_version(),
        },
        signatures=[SIGNATURE, IMAGE_BYTES],
        files=file_hashes(folder),
        classes=classes,
    )
