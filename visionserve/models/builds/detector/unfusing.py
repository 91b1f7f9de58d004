"""TensorFlow.js's fused operations -> TensorFlow's own."""

from collections.abc import Iterator
from typing import Any

from visionserve.errors import WeightsError

CONVOLUTIONS = {"_FusedConv2D": "Conv2D", "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative"}
ACTIVATIONS = frozenset({"Relu", "Relu6"})
OF_THE_FUSION = frozenset({"fused_ops", "num_args", "num_host_args", "TArgs", "epsilon", "leakyrelu_alpha"})


def unfused(graph: Any) -> Any:
    """A GraphDef that TensorFlow runs, of one that TensorFlow.js's converter has optimized.

    A fused convolution becomes the convolution, a BiasAdd and the activation it may have; the last keeps its name, so
    that what reads it stays as it is. Raises WeightsError for one fused with anything else.
    """
    plain = type(graph)(versions=graph.versions)
    for node in graph.node:
        plain.node.extend(_parts(node) if node.op in CONVOLUTIONS else [node])
    for node in plain.node:
        # TensorFlow chooses the device, not the machine that it was converted on.
        node.device = ""
    return plain


def _parts(node: Any) -> Iterator[Any]:
    fused = [name.decode() for name in node.attr["fused_ops"].list.s]
    if fused[:1] != ["BiasAdd"] or len(fused) > 2 or not ACTIVATIONS.issuperset(fused[1:]) or len(node.input) != 3:
        raise WeightsError(
            f"its operation {node.name} is a convolution fused with {', '.join(fused)}, which is not read"
        )
    value, filters, bias = node.input
    convolution = type(node)(name=f"{node.name}/convolution", op=CONVOLUTIONS[node.op], input=[value, filters])
    for name, attribute in node.attr.items():
        if name not in OF_THE_FUSION:
            convolution.attr[name].CopyFrom(attribute)
    yield convolution
    biased = type(node)(name=node.name, op="BiasAdd", input=[convolution.name, bias])
    for name in ("T", "data_format"):
        biased.attr[name].CopyFrom(node.attr[name])
    if len(fused) == 1:
        yield biased
        return
    biased.name = f"{node.name}/bias"
    yield biased
    activation = type(node)(name=node.name, op=fused[1], input=[biased.name])
    activation.attr["T"].CopyFrom(node.attr["T"])
    yield activation
