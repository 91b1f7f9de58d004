"""Other ways to write the CPU build, to compare it with: `build_variants.py FOLDER` writes each into a folder there."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from visionserve.models.builds.cpu.folded_network import classify
from visionserve.models.builds.cpu.folding import fold_batch_norm
from visionserve.models.builds.cpu.saved_model import write_saved_model
from visionserve.models.resnet50 import MEAN_BGR, build_resnet50
from visionserve.models.tensorflow import import_tensorflow
from visionserve.models.weights import Weights, find_weights

EXPORTED = "folded, constants"
VARIANTS = ("variables", "constants in a function", "folded, variables", "folded, constants in a function", EXPORTED)


def write_variants(weights: Weights, folder: Path) -> None:
    """As Keras has it and with BatchNormalization folded in; the weights as variables, as constants inside the
    function that uses them, and as constants beside it, which is what `visionserve export cpu` writes.
    """
    tensorflow = import_tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    layers = fold_batch_norm(weights)
    folded_variables = {name: tuple(map(tensorflow.Variable, arrays)) for name, arrays in layers.items()}
    model = build_resnet50(weights)

    def keras(input: Any) -> Any:
        bgr = tensorflow.reverse(tensorflow.cast(input, tensorflow.float32), axis=[-1])
        return model(bgr - tensorflow.constant(MEAN_BGR), training=False)

    frozen = convert_variables_to_constants_v2(traced(keras).get_concrete_function())
    write(keras, folder / VARIANTS[0], [variable.value for variable in model.variables])
    write(lambda input: frozen(input)[0], folder / VARIANTS[1])
    variables = [variable for layer in folded_variables.values() for variable in layer]
    write(lambda input: classify(input, folded_variables), folder / VARIANTS[2], variables)
    write(lambda input: classify(input, layers), folder / VARIANTS[3])
    write_saved_model(layers, folder / EXPORTED)


def traced(function: Callable[..., Any]) -> Any:
    tensorflow = import_tensorflow()
    pixels = tensorflow.TensorSpec([None, 224, 224, 3], tensorflow.uint8, "input")
    return tensorflow.function(function, input_signature=[pixels], autograph=False)


def write(infer: Callable[[Any], Any], folder: Path, variables: list[Any] | None = None) -> None:
    tensorflow = import_tensorflow()
    module = tensorflow.Module()
    module.held = variables
    served = traced(lambda input: {"output": infer(input)})
    tensorflow.saved_model.save(module, str(folder), signatures={"serving_default": served})


if __name__ == "__main__":
    write_variants(find_weights(), Path(sys.argv[1]))
