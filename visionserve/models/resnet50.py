from typing import Any

import numpy as np

from visionserve.models.tensorflow import import_keras
from visionserve.models.weights import Weights

# ImageNet's mean in blue, green, red, as Caffe's models and keras.applications.resnet.preprocess_input subtract it.
MEAN_BGR = (103.939, 116.779, 123.68)


def build_resnet50(weights: Weights) -> Any:
    """A keras.Model with `weights`: float32 BGR minus MEAN_BGR [N, 224, 224, 3] -> probabilities [N, 1000]."""
    keras = import_keras()
    model = keras.applications.ResNet50(weights=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = weights.epsilon
    for name, arrays in weights.tensors.items():
        model.get_layer(name).set_weights(arrays)
    return model


def classify_with_keras(model: Any, pixels: np.ndarray) -> np.ndarray:
    """uint8 RGB [N, 224, 224, 3] -> probabilities float32 [N, 1000], Keras's own way and outside any export."""
    keras = import_keras()
    inputs = keras.applications.resnet.preprocess_input(pixels.astype(np.float32))
    return np.asarray(model(inputs, training=False))
