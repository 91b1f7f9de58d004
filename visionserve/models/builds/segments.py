from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from visionserve.models.builds.graph import IDLE_OPERATIONS

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})

# Function name -> its NodeDefs.
Functions = Mapping[str, Iterable[Any]]
# A node, and the functions beside it -> the NodeDefs that the node stands for if it is a segment, which a compiler or
# an accelerator's library runs in one piece, and None for any other node.
HeldBy = Callable[[Any, Functions], Iterable[Any] | None]


@dataclass(frozen=True)
class Placement:
    """A signature's operations that compute something: how many its segments hold, and which kinds they leave out."""

    inside: int
    outside: Counter[str]

    @property
    def fraction(self) -> float:
        return self.inside / max(self.inside + self.outside.total(), 1)


def placement(saved_model: Any, signature: str, held_by: HeldBy) -> Placement:
    """Where the operations of one signature of a SavedModel protocol buffer are."""
    inside = 0
    outside: Counter[str] = Counter()
    for node, functions in _nodes_of_signature(saved_model, signature, held_by):
        held = held_by(node, functions)
        if held is not None:
            inside += sum(1 for replaced in held if replaced.op not in IDLE_OPERATIONS)
        elif node.op not in IDLE_OPERATIONS | CALLS:
            outside[node.op] += 1
    return Placement(inside, outside)


def segments(saved_model: Any, signature: str, held_by: HeldBy) -> list[Any]:
    """The NodeDefs of a signature's segments."""
    nodes = _nodes_of_signature(saved_model, signature, held_by)
    return [node for node, functions in nodes if held_by(node, functions) is not None]


def _nodes_of_signature(saved_model: Any, signature: str, held_by: HeldBy) -> Iterator[tuple[Any, Functions]]:
    """What a signature's outputs come from, in the graph and in the functions that it calls: not what saves and
    restores variables, and not what segments hold."""
    for meta_graph in saved_model.meta_graphs:
        graph = meta_graph.graph_def
        functions = {function.signature.name: function.node_def for function in graph.library.function}
        nodes = {node.name: node for node in graph.node}
        wanted = [tensor.name for tensor in meta_graph.signature_def[signature].outputs.values()]
        reached: dict[str, Any] = {}
        while wanted:
            name = wanted.pop().lstrip("^").partition(":")[0]
            if name not in reached:
                reached[name] = nodes[name]
                wanted.extend(nodes[name].input)
        entered: set[str] = set()
        level = list(reached.values())
        while level:
            yield from ((node, functions) for node in level)
            called = {name for node in level if held_by(node, functions) is None for name in _functions_called_by(node)}
            level = [node for name in sorted(called - entered) for node in functions[name]]
            entered |= called


def _functions_called_by(node: Any) -> Iterator[str]:
    for attribute in node.attr.values():
        yield from (function.name for function in [attribute.func, *attribute.list.func] if function.name)
