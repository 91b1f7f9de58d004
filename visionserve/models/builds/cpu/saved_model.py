from pathlib import Path
from typing import Any

from visionserve.errors import ModelError
from visionserve.models.builds.cpu.folded_network import classify
from visionserve.models.builds.cpu.folding import Layers
from visionserve.models.builds.cpu.image_bytes import decode_images
from visionserve.models.builds.manifest import Signature, Tensor
from visionserve.models.tensorflow import import_tensorflow

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


def write_saved_model(layers: Layers, folder: Path) -> None:
    """Writes `layers`, as fold_batch_norm gives them, as a SavedModel without variables; see export_cpu.

    Its constants are in the main graph, once, and both signatures take them from there. Inside a function instead, as
    nodes, they would be copied with it: TensorFlow 2's own loader then needs over twice the memory, see
    docs/measurements.md. Raises ModelError where it cannot be written.
    """
    tensorflow = import_tensorflow()
    constants = {name: tuple(map(tensorflow.constant, arrays)) for name, arrays in layers.items()}

    def serve(input: Any) -> dict[str, Any]:
        return {"output": classify(input, constants)}

    def serve_encoded(image_bytes: Any) -> dict[str, Any]:
        probabilities = default(decode_images(image_bytes))["output"]
        return {
            "classes": tensorflow.argmax(probabilities, axis=-1) + 1,
            "probabilities": tensorflow.pad(probabilities, [[0, 0], [1, 0]]),
        }

    default = tensorflow.function(serve, input_signature=_input_signature(SIGNATURE), autograph=False)
    encoded = tensorflow.function(serve_encoded, input_signature=_input_signature(IMAGE_BYTES), autograph=False)
    signatures = {SIGNATURE.name: default, IMAGE_BYTES.name: encoded}
    try:
        tensorflow.saved_model.save(tensorflow.Module(), str(folder), signatures=signatures)
    except tensorflow.errors.OpError as error:
        raise ModelError(f"TensorFlow could not write the SavedModel: {error.message}") from error


def _input_signature(signature: Signature) -> list[Any]:
    tensorflow = import_tensorflow()
    return [tensorflow.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in signature.inputs]
