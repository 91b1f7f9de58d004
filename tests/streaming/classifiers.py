"""Classifiers that differ in what they want done to the pixels, made of the real weights or in no time."""

from pathlib import Path

import numpy as np


def write_keras_resnet50(weights, folder: Path) -> Path:
    """The real weights as Keras has them, a SavedModel: float32 BGR minus its means [N, 224, 224, 3] -> [N, 1000].

    They are constants: OpenVINO does not find the variables of what Keras 3 saves.
    """
    from visionserve.models.resnet50 import build_resnet50
    from visionserve.models.tensorflow import import_tensorflow

    tensorflow = import_tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    network = build_resnet50(weights)
    signature = tensorflow.TensorSpec([None, 224, 224, 3], tensorflow.float32, "images")
    serve = tensorflow.function(lambda images: network(images, training=False), input_signature=[signature])
    frozen = convert_variables_to_constants_v2(serve.get_concrete_function())
    answer = tensorflow.function(lambda images: {"answer": frozen(images)[0]}, input_signature=[signature])
    tensorflow.saved_model.save(tensorflow.Module(), str(folder), signatures={"serving_default": answer})
    return folder


def write_slim_like(saved_model: Path, file: Path) -> Path:
    """A BGR [N, H, W, 3] model -> the same in OpenVINO's format as Slim's convention is: RGB, here [N, 3, H, W]."""
    import openvino

    graph = openvino.Core().read_model(saved_model)
    processor = openvino.preprocess.PrePostProcessor(graph)
    processor.input().tensor().set_layout(openvino.Layout("NCHW"))
    processor.input().model().set_layout(openvino.Layout("NHWC"))
    processor.input().preprocess().reverse_channels()
    openvino.save_model(processor.build(), file, compress_to_fp16=False)
    return file


def write_color_classifier(folder: Path, shape=(-1, 8, 8, 3), dtype=np.float32, softmax=True, inputs=1, rank=2) -> Path:
    """FOLDER/model.xml: each channel's mean, [N, 3], through a softmax if told to. The channels are the last axis."""
    import openvino
    from openvino import opset13 as ops

    parameters = [ops.parameter(openvino.PartialShape(list(shape)), dtype, f"images{n}") for n in range(inputs)]
    numbers = sum((ops.convert(each, np.float32) for each in parameters[1:]), ops.convert(parameters[0], np.float32))
    means = ops.reduce_mean(numbers, np.array([1, 2] if rank == 2 else [1]), keep_dims=False)
    answer = ops.softmax(means, -1) if softmax else means
    openvino.save_model(openvino.Model([answer], parameters), folder / "model.xml", compress_to_fp16=False)
    return folder
