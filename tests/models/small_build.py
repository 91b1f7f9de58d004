"""A CPU build that is made in no time."""

from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from visionserve.models.builds.manifest import Manifest, Signature, Tensor, WeightsOrigin, file_hashes

SIGNATURE = Signature(
    name="serving_default",
    inputs=[Tensor(name="input", dtype="uint8", shape=[None, 224, 224, 3])],
    outputs=[Tensor(name="output", dtype="float32", shape=[None, 1000])],
)


def write_small_build(folder: Path, spread: float) -> Path:
    """Writes random weights on the mean color, which `spread` scales, and 150 operations that change nothing."""
    import tensorflow

    module = tensorflow.Module()
    module.weights = tensorflow.Variable(np.random.default_rng(0).normal(size=(3, 1000)).astype(np.float32) * spread)

    def serve(pixels):
        answer = tensorflow.reduce_mean(tensorflow.cast(pixels, tensorflow.float32), [1, 2]) @ module.weights
        for _ in range(150):
            answer = tensorflow.abs(answer)
        return {"output": tensorflow.nn.softmax(answer)}

    specification = tensorflow.TensorSpec([None, 224, 224, 3], tensorflow.uint8, "input")
    function = tensorflow.function(serve, input_signature=[specification])
    tensorflow.saved_model.save(module, str(folder), signatures={"serving_default": function})
    Manifest(
        model="resnet50",
        target="cpu",
        recipe=1,
        created=datetime.now(timezone.utc),
        weights=WeightsOrigin(source="random numbers", sha256="0" * 64, epsilon=1e-3, parameters=3000),
        versions={},
        signatures=[SIGNATURE],
        files=file_hashes(folder),
        classes=[str(number) for number in range(1000)],
    ).write(folder)
    return folder
