from pathlib import Path

from visionserve.models.builds.graph import nodes_of, read_saved_model

# Of 2023 and 2024: what they are for (copies on read, names in error messages) older servers do without.
NEWER_ATTRIBUTES = {"VarHandleOp": "debug_name"}
NEWER_OPERATIONS = ("DisableCopyOnRead",)


def make_loadable_by_tensorflow_2_3(folder: Path) -> None:
    """Takes out of a SavedModel what keeps TensorFlow Serving 2.3, which Cortex 0.18 to 0.24 runs, from loading it.

    The graph's answers stay the same. Its fingerprint.pb, which no longer fits, goes; no reader needs one.
    """
    saved_model = read_saved_model(folder)
    for node in nodes_of(saved_model):
        node.attr.pop(NEWER_ATTRIBUTES.get(node.op, ""), None)
        if node.op in NEWER_OPERATIONS:
            # Other nodes wait for it by its name.
            node.op = "NoOp"
            node.ClearField("input")
            node.ClearField("attr")
    (folder / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    (folder / "fingerprint.pb").unlink(missing_ok=True)
