"""A TensorFlow.js graph model -> the network in TensorFlow's own operations."""

from typing import Any

import numpy as np

from visionserve.errors import WeightsError
from visionserve.models.builds.detector.unfusing import unfused
from visionserve.models.builds.detector.weights import DetectorWeights
from visionserve.models.tensorflow import import_tensorflow

SIDE = 512
# Tensors of the graph and their shapes: the picture, float32 RGB 0..255; how sure it is at each place that an object of
# each class has its center there; how far from there its left, top, right and bottom are, in pixels; and the 100
# likeliest objects as x1, y1, x2, y2, score, class 0..79.
IMAGES = ("tower_0/images", [1, SIDE, SIDE, 3])
KEYPOINTS = ("tower_0/keypoints", [1, SIDE // 4, SIDE // 4, 80])
DISTANCES = ("tower_0/wh", [1, SIDE // 4, SIDE // 4, 4])
DETECTIONS = ("tower_0/detections", [1, 100, 6])


class Network:
    """MobileNetV3-CenterNet (github.com/610265158/mobilenetv3_centernet, after "Objects as Points",
    arXiv:1904.07850), to be called while a TensorFlow function is traced.

    Raises WeightsError where the weights are of another graph, or damaged.
    """

    def __init__(self, weights: DetectorWeights) -> None:
        try:
            self._graph = _graph(weights)
            self._check()
        except WeightsError as error:
            raise WeightsError(f"{weights.path}: {error}") from error

    def heads(self, images: Any) -> tuple[Any, Any]:
        """float32 RGB 0..255 [1, 512, 512, 3] -> KEYPOINTS and DISTANCES."""
        keypoints, distances = self._run(images, KEYPOINTS[0], DISTANCES[0])
        return keypoints, distances

    def detections(self, images: Any) -> Any:
        """float32 RGB 0..255 [1, 512, 512, 3] -> DETECTIONS, by the graph's own operations."""
        [detections] = self._run(images, DETECTIONS[0])
        return detections

    def _run(self, images: Any, *outputs: str) -> list[Any]:
        tensorflow = import_tensorflow()
        return tensorflow.graph_util.import_graph_def(
            _needed(self._graph, outputs),
            input_map={IMAGES[0]: images},
            return_elements=[f"{name}:0" for name in outputs],
            name="",
        )

    def _check(self) -> None:
        tensorflow = import_tensorflow()
        names = {node.name for node in self._graph.node}
        for name, shape in (KEYPOINTS, DISTANCES, DETECTIONS):
            if name not in names:
                raise WeightsError(f"it is another network than the detector: it has no {name}")
            try:
                with tensorflow.Graph().as_default():
                    [tensor] = self._run(tensorflow.zeros(IMAGES[1]), name)
            except (ValueError, tensorflow.errors.OpError) as error:
                reason = str(error).partition("\n")[0]
                raise WeightsError(f"its graph does not work in TensorFlow: {reason}") from error
            if tensor.shape.as_list() != shape:
                raise WeightsError(
                    f"it is another network than the detector: its {name} is {tensor.shape.as_list()}, not {shape}"
                )


def _graph(weights: DetectorWeights) -> Any:
    tensorflow = import_tensorflow()
    from google.protobuf.json_format import ParseDict, ParseError

    try:
        graph = ParseDict(weights.network.topology, tensorflow.compat.v1.GraphDef())
    except ParseError as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"its modelTopology is not a TensorFlow graph: {reason}") from error
    for node in graph.node:
        if node.op == "Const":
            array = weights.network.weights.get(node.name)
            if array is None:
                raise WeightsError(f"its constant {node.name} is not among its weights")
            if not np.isfinite(array).all():
                raise WeightsError(f"its weight {node.name} holds a number that is not finite, so it is damaged")
            node.attr["value"].tensor.CopyFrom(tensorflow.make_tensor_proto(array))
    return unfused(graph)


def _needed(graph: Any, outputs: tuple[str, ...]) -> Any:
    """The part of the graph that gives `outputs`, without its input."""
    nodes = {node.name: node for node in graph.node}
    wanted, found = list(outputs), {IMAGES[0]}
    while wanted:
        name = wanted.pop()
        if name not in found:
            if name not in nodes:
                raise WeightsError(f"its graph is incomplete: it has no operation {name}")
            found.add(name)
            wanted += [value.partition(":")[0].removeprefix("^") for value in nodes[name].input]
    return type(graph)(node=[node for node in graph.node if node.name in found and node.op != "Placeholder"])
