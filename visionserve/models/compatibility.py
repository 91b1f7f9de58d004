from pathlib import Path

from visionserve.models.tensorflow import import_tensorflow

# Of 2023 and 2024: what they are for (copies on read, names in error messages) older servers do without.
NEWER_ATTRIBUTES = {"VarHandleOp": "debug_name"}
NEWER_OPERATIONS = ("DisableCopyOnRead",)


def make_loadable_by_tensorflow_2_3(folder: Path) -> None:
    """Takes out of a SavedModel what keeps TensorFlow Serving 2.3, which Cortex 0.18 to 0.24 runs, from loading it.

    The graph's answers stay the same. Its fingerprint.pb, which no longer fits, goes; no reader needs one.
    """
    import_tensorflow()
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = folder / "saved_model.pb"
    saved_model = SavedModel.FromString(path.read_bytes())
    for meta_graph in saved_model.meta_graphs:
        graph = meta_graph.graph_def
        for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
            for node in nodes:
                node.attr.pop(NEWER_ATTRIBUTES.get(node.op, ""), None)
                if node.op in NEWER_OPERATIONS:
                    # Other nodes wait for it by its name.
                    node.op = "NoOp"
                    node.ClearField("input")
                    node.ClearField("attr")
    path.write_bytes(saved_model.SerializeToString())
    (folder / "fingerprint.pb").unlink(missing_ok=True)
