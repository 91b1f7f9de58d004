from pathlib import Path

import numpy as np

from visionserve.models.builds.cpu.folding import fold_batch_norm
from visionserve.models.weights import Weights

EPSILON = 0.5


def network(epsilon=EPSILON):
    """Two convolutions and a dense layer of random numbers, with ResNet50's names."""
    random = np.random.default_rng(7)

    def numbers(*shape):
        return random.normal(size=shape).astype(np.float32)

    tensors = {"predictions": [numbers(6, 10), numbers(10)]}
    for name, kernel in {"conv1": numbers(7, 7, 3, 4), "conv2_block1_1": numbers(1, 1, 4, 6)}.items():
        channels = kernel.shape[-1]
        tensors[f"{name}_conv"] = [kernel, numbers(channels)]
        tensors[f"{name}_bn"] = [*(numbers(channels) for _ in range(3)), random.uniform(0.1, 2, channels)]
    return Weights(tensors, epsilon, source="random numbers", path=Path("none"), sha256="")


def normalized(weights, name, pixels):
    """What a 1x1 convolution and its BatchNormalization make of pixels [N, inputs], one after the other."""
    kernel, bias = weights.tensors[f"{name}_conv"]
    gamma, beta, mean, variance = weights.tensors[f"{name}_bn"]
    return gamma * (pixels @ kernel[0, 0] + bias - mean) / np.sqrt(variance + weights.epsilon) + beta


def test_a_folded_convolution_answers_as_the_convolution_and_its_normalization():
    weights = network()
    kernel, bias = fold_batch_norm(weights)["conv2_block1_1_conv"]
    pixels = np.random.default_rng(0).normal(size=(100, 4))
    wanted = normalized(weights, "conv2_block1_1", pixels)
    np.testing.assert_allclose(pixels @ kernel[0, 0] + bias, wanted, rtol=0, atol=1e-5)
    other = normalized(network(epsilon=1e-3), "conv2_block1_1", pixels)
    assert np.abs(wanted - other).max() > 0.1


def test_the_first_convolution_takes_rgb_instead_of_bgr():
    weights = network()
    kernel, _ = fold_batch_norm(weights)["conv1_conv"]
    gamma, _, _, variance = weights.tensors["conv1_bn"]
    bgr = weights.tensors["conv1_conv"][0] * gamma / np.sqrt(variance + EPSILON)
    np.testing.assert_allclose(kernel, np.flip(bgr, axis=2), rtol=1e-6)


def test_what_is_left_is_float32_and_the_dense_layer_is_as_it_was():
    weights = network()
    layers = fold_batch_norm(weights)
    assert layers.keys() == {"conv1_conv", "conv2_block1_1_conv", "predictions"}
    assert {array.dtype for arrays in layers.values() for array in arrays} == {np.dtype(np.float32)}
    for given, wanted in zip(layers["predictions"], weights.tensors["predictions"], strict=True):
        np.testing.assert_array_equal(given, wanted)
