from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from visionserve.errors import ModelError
from visionserve.models.builds.agreement import Agreement, check_fp16, worst
from visionserve.models.builds.manifest import Signature, Tensor
from visionserve.models.builds.segments import Functions, placement, segments
from visionserve.models.builds.signature import DEFAULT
from visionserve.models.builds.tensorrt.converter import CPU, ENGINE, Job
from visionserve.models.tensorflow import import_tensorflow

LEAST_IN_SEGMENTS = 0.9
# Every SavedModel of TensorFlow 2 has it.
INITIALIZER = "__saved_model_init_op"
DISCARDED = "so it was discarded"


def check_signature(saved_model: Any, wanted: Signature) -> None:
    """Raises ModelError where a SavedModel protocol buffer has another signature than this one, or none."""
    given = _signatures(saved_model)
    if given != [wanted]:
        found = ", ".join(map(_text, given)) or "none"
        raise ModelError(f"the converted model's signatures are {found}, and not {_text(wanted)}, {DISCARDED}")


def check_segments(saved_model: Any) -> float:
    """The part of the operations of serving_default that is in TensorRT segments. Raises ModelError under 90 %."""
    placed = placement(saved_model, DEFAULT, _held)
    if placed.fraction < LEAST_IN_SEGMENTS:
        outside = ", ".join(f"{count} {operation}" for operation, count in placed.outside.most_common())
        raise ModelError(
            f"only {placed.fraction:.1%} of the converted model's operations are in TensorRT segments, and "
            f"{LEAST_IN_SEGMENTS:.0%} must be, {DISCARDED}; outside are {outside}; try another --minimum-segment-size"
        )
    return placed.fraction


def check_engines(saved_model: Any, folder: Path) -> None:
    """Raises ModelError where a segment in `folder` is not in FP16, has no engine, or would build one at a request."""
    for node in segments(saved_model, DEFAULT, _held):
        engine = folder / "assets" / f"trt-serialized-engine.{node.name.rpartition('/')[2]}"
        if not engine.is_file() or engine.stat().st_size == 0:
            raise ModelError(f"TensorRT built no engine for the segment {node.name}, {DISCARDED}")
        if node.attr["precision_mode"].s != b"FP16":
            raise ModelError(f"the segment {node.name} is not in FP16, {DISCARDED}")
        # Missing, it counts as true.
        if "_allow_build_at_runtime" not in node.attr or node.attr["_allow_build_at_runtime"].b:
            raise ModelError(f"the segment {node.name} would build engines while requests wait, {DISCARDED}")


def check_answers(job: Job) -> Agreement:
    """What a job has answered -> the agreement with the CPU build at the batch size where it is worst.

    Raises ModelError where a class is another one, or a probability differs by more than 2e-2.
    """
    wanted = np.load(job.answers / CPU)
    sizes = job.settings.checked_batch_sizes()
    return worst([check_fp16(np.load(job.answers / f"{size}.npy"), wanted, size) for size in sizes])


def _held(node: Any, functions: Functions) -> Iterable[Any] | None:
    """TF-TRT keeps the operations that an engine replaces as a function, to run where no engine fits."""
    return functions[node.attr["segment_func"].func.name] if node.op == ENGINE else None


def _signatures(saved_model: Any) -> list[Signature]:
    tensorflow = import_tensorflow()

    def tensors(information: Any) -> list[Tensor]:
        return [
            Tensor(
                name=name,
                dtype=tensorflow.dtypes.as_dtype(tensor.dtype).name,
                shape=[None if dimension.size < 0 else dimension.size for dimension in tensor.tensor_shape.dim],
            )
            for name, tensor in sorted(information.items())
        ]

    return [
        Signature(name=name, inputs=tensors(definition.inputs), outputs=tensors(definition.outputs))
        for meta_graph in saved_model.meta_graphs
        for name, definition in sorted(meta_graph.signature_def.items())
        if name != INITIALIZER
    ]


def _text(signature: Signature) -> str:
    given, answered = (
        ", ".join(f"{tensor.name} {tensor.dtype} {tensor.shape}" for tensor in tensors)
        for tensors in (signature.inputs, signature.outputs)
    )
    return f"{signature.name} ({given} -> {answered})".replace("None", "N")
