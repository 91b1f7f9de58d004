from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visionserve.errors import ModelError
from visionserve.models.tensorflow import import_tensorflow

# They compute nothing: constants, names, and edges that only order what runs.
IDLE_OPERATIONS = frozenset({"Const", "Identity", "IdentityN", "NoOp", "Placeholder", "ReadVariableOp", "VarHandleOp"})


def read_saved_model(folder: Path) -> Any:
    """The SavedModel protocol buffer in a build's folder, read without loading it. Raises ModelError."""
    import_tensorflow()
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = folder / "saved_model.pb"
    try:
        return SavedModel.FromString(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise ModelError(f"{path} is not a SavedModel: {error}") from error


def functions_of(saved_model: Any) -> Iterator[Any]:
    """Every FunctionDef in the libraries of a SavedModel protocol buffer."""
    for meta_graph in saved_model.meta_graphs:
        yield from meta_graph.graph_def.library.function


def nodes_of(saved_model: Any) -> Iterator[Any]:
    """Every NodeDef of a SavedModel protocol buffer, those of its functions too."""
    for meta_graph in saved_model.meta_graphs:
        yield from meta_graph.graph_def.node
    for function in functions_of(saved_model):
        yield from function.node_def
