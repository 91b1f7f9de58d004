from collections.abc import Mapping
from typing import Any

from visionserve.models.layer_names import STAGES
from visionserve.models.resnet50 import MEAN_BGR
from visionserve.models.tensorflow import import_tensorflow


def classify(pixels: Any, layers: Mapping[str, tuple[Any, Any]]) -> Any:
    """uint8 RGB [N, 224, 224, 3] -> probabilities float32 [N, 1000], by TensorFlow's operations.

    `layers`: what fold_batch_norm gives, as arrays, tensors or variables. He et al.'s ResNet-50 (arXiv:1512.03385) as
    keras.applications has it: the stride of a block is in its first convolution.
    """
    tensorflow = import_tensorflow()

    def convolve(inputs: Any, name: str, stride: int = 1, padding: str = "VALID") -> Any:
        kernel, bias = layers[f"{name}_conv"]
        return tensorflow.nn.bias_add(tensorflow.nn.conv2d(inputs, kernel, stride, padding), bias)

    def bottleneck(inputs: Any, name: str, stride: int, widens: bool) -> Any:
        shortcut = convolve(inputs, f"{name}_0", stride) if widens else inputs
        features = tensorflow.nn.relu(convolve(inputs, f"{name}_1", stride))
        features = tensorflow.nn.relu(convolve(features, f"{name}_2", padding="SAME"))
        return tensorflow.nn.relu(shortcut + convolve(features, f"{name}_3"))

    # Not part of the first bias: the zeros that are padded stand for pixels of the mean color.
    features = _padded(tensorflow.cast(pixels, tensorflow.float32) - tensorflow.constant(MEAN_BGR[::-1]), 3)
    features = tensorflow.nn.relu(convolve(features, "conv1", 2))
    features = tensorflow.nn.max_pool2d(_padded(features, 1), 3, 2, "VALID")
    for stage, (_, blocks) in STAGES.items():
        for block in range(1, blocks + 1):
            stride = 2 if block == 1 and stage > min(STAGES) else 1
            features = bottleneck(features, f"conv{stage}_block{block}", stride, widens=block == 1)
    kernel, bias = layers["predictions"]
    logits = tensorflow.matmul(tensorflow.reduce_mean(features, [1, 2]), kernel)
    return tensorflow.nn.softmax(tensorflow.nn.bias_add(logits, bias))


def _padded(images: Any, margin: int) -> Any:
    return import_tensorflow().pad(images, [[0, 0], [margin, margin], [margin, margin], [0, 0]])
