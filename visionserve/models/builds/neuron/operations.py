from collections.abc import Iterable
from typing import Any

from visionserve.models.builds.segments import Functions, Placement, placement
from visionserve.models.tensorflow import import_tensorflow


def neuron_placement(saved_model: Any, signature: str) -> Placement:
    """Where the operations of one signature of a SavedModel protocol buffer are: inside its NeuronOps or not."""
    return placement(saved_model, signature, _held_by_neuron)


def _held_by_neuron(node: Any, functions: Functions) -> Iterable[Any] | None:
    """A NeuronOp keeps what it replaces in `graph_def`, and what that was compiled to in `executable`."""
    import_tensorflow()
    from tensorflow.core.framework.graph_pb2 import GraphDef

    if node.op != "NeuronOp" or not node.attr["executable"].s:
        return None
    return GraphDef.FromString(node.attr["graph_def"].s).node
