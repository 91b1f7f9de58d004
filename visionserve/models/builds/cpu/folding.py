import numpy as np

from visionserve.models.weights import Weights

# A layer's kernel and bias, float32, the kernel [H, W, inputs, outputs] or [inputs, outputs] as Keras keeps it.
Layers = dict[str, tuple[np.ndarray, np.ndarray]]

FIRST = "conv1_conv"


def fold_batch_norm(weights: Weights) -> Layers:
    """ResNet50's convolutions and its dense layer by Keras's names, with nothing left to normalize between them.

    At inference a BatchNormalization is gamma * (x - mean) / sqrt(variance + epsilon) + beta (Ioffe and Szegedy,
    arXiv:1502.03167, algorithm 2), linear in each channel, so that the convolution before it takes it in: computed in
    float64. The first convolution takes RGB instead of BGR.
    """
    layers = {}
    for name, arrays in weights.tensors.items():
        if name.endswith("_bn"):
            continue
        kernel, bias = (array.astype(np.float64) for array in arrays)
        if name.endswith("_conv"):
            normalization = weights.tensors[name.removesuffix("conv") + "bn"]
            gamma, beta, mean, variance = (array.astype(np.float64) for array in normalization)
            scale = gamma / np.sqrt(variance + weights.epsilon)
            kernel, bias = kernel * scale, (bias - mean) * scale + beta
        if name == FIRST:
            kernel = kernel[:, :, ::-1]
        layers[name] = (kernel.astype(np.float32), bias.astype(np.float32))
    return layers
