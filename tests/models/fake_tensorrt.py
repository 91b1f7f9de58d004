"""A fake of TF-TRT's TrtGraphConverterV2, for machines without an NVIDIA GPU and TensorRT 8.6.

It checks what it is told and the graph that goes in as the real one of TensorFlow 2.17.1 would, and writes a graph laid
out as the real one's. No TRTEngineOp runs without a GPU: replaced_by_calls makes plain calls of them.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visionserve.models.builds.graph import nodes_of, read_saved_model

ENGINE = "TRTEngineOp_000_000"
# Of get_registered_op_converters() of TensorFlow 2.17.1, those that an image classifier may have.
CONVERTIBLE = {
    "Abs",
    "Add",
    "AddV2",
    "AvgPool",
    "BiasAdd",
    "Const",
    "Conv2D",
    "FusedBatchNormV3",
    "Identity",
    "MatMul",
    "MaxPool",
    "Mean",
    "Mul",
    "Pad",
    "Relu",
    "Reshape",
    "Rsqrt",
    "Snapshot",
    "Softmax",
    "Squeeze",
    "Sub",
    "Transpose",
}
# What the real one leaves to TensorFlow: TensorRT takes no uint8, and has no ReverseV2.
LEFT_TO_TENSORFLOW = {"Cast", "NoOp", "Placeholder", "ReverseV2"}


@dataclass
class Gpu:
    """What the fake converter does wrong on purpose: of a hundred operations `outside` are left out, no engine is built
    for want of `memory`, `spoil` changes the answers, `fails` is raised by build().

    `told`: the arguments of each converter made. `batches`: what its build() was given.
    """

    outside: int = 1
    memory: bool = True
    precision: bytes = b"FP16"
    spoil: Callable[[Any], Any] = lambda answers: answers
    fails: Exception | None = None
    output: str | None = None
    told: list[dict[str, Any]] = field(default_factory=list)
    batches: list[np.ndarray] = field(default_factory=list)

    def converter_class(self) -> Callable[..., "Converter"]:
        # The real constructor's arguments and defaults.
        def converter(
            input_saved_model_dir=None,
            input_saved_model_tags=None,
            input_saved_model_signature_key=None,
            use_dynamic_shape=None,
            dynamic_shape_profile_strategy=None,
            max_workspace_size_bytes=(1 << 63) - 513,
            precision_mode="FP32",
            minimum_segment_size=3,
            maximum_cached_engines=1,
            use_calibration=True,
            allow_build_at_runtime=True,
            conversion_params=None,
        ):
            assert conversion_params is None, "deprecated"
            assert precision_mode in ("FP32", "FP16", "INT8")
            assert minimum_segment_size > 0
            assert dynamic_shape_profile_strategy in (None, "Range", "Optimal", "Range+Optimal")
            told = {name: value for name, value in locals().items() if name != "self"}
            self.told.append(told)
            return Converter(self, told)

        return converter


class Converter:
    def __init__(self, gpu: Gpu, told: dict[str, Any]) -> None:
        self.gpu = gpu
        self.told = told
        self.frozen = self.shapes = None

    def convert(self, calibration_input_fn=None):
        import tensorflow
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        assert calibration_input_fn is None, "INT8 only"
        self.loaded = tensorflow.saved_model.load(self.told["input_saved_model_dir"])
        function = self.loaded.signatures[self.told["input_saved_model_signature_key"]]
        [self.input] = function.structured_input_signature[1]
        [self.output] = function.structured_outputs
        self.frozen = convert_variables_to_constants_v2(function)
        nodes = self.frozen.graph.as_graph_def().node
        assert {node.op for node in nodes} <= CONVERTIBLE | LEFT_TO_TENSORFLOW
        [given] = [node for node in nodes if node.op == "Placeholder"]
        assert [dimension.size for dimension in given.attr["shape"].shape.dim] == [-1, 224, 224, 3]

    def build(self, input_fn):
        assert self.frozen is not None, "Need to call convert() before build()"
        if self.gpu.fails is not None:
            raise self.gpu.fails
        for batch in input_fn():
            [pixels] = batch.values()
            assert list(batch) == [self.input]
            assert (pixels.dtype, pixels.shape[1:]) == (np.uint8, (224, 224, 3))
            assert pixels.std() > 0
            self.gpu.batches.append(pixels)

    def save(self, output_saved_model_dir, save_gpu_specific_engines=True, options=None):
        import tensorflow
        from tensorflow.python.eager.wrap_function import function_from_graph_def

        graph = self.frozen.graph.as_graph_def()
        _round_to_half(graph)
        segment = function_from_graph_def(graph, [self.frozen.inputs[0].name], [self.frozen.outputs[0].name])
        counted = sum(1 for node in graph.node if node.op not in ("Const", "Identity", "NoOp", "Placeholder"))
        # TensorFlow 2.17's save() loses the names where it has to set the nodes' attribute itself.
        output = self.gpu.output or (self.output if self.told["allow_build_at_runtime"] else "output_0")

        def serve(pixels):
            [answers] = segment(pixels)
            for _ in range(-(-counted * self.gpu.outside // (100 - self.gpu.outside))):
                answers = tensorflow.abs(answers)
            return {output: tensorflow.identity(self.gpu.spoil(answers))}

        specification = tensorflow.TensorSpec([None, 224, 224, 3], tensorflow.uint8, self.input)
        function = tensorflow.function(serve, input_signature=[specification], autograph=False)
        folder = Path(output_saved_model_dir)
        tensorflow.saved_model.save(tensorflow.Module(), str(folder), signatures={"serving_default": function})
        _replace_calls(folder, self.gpu.precision, self.told["allow_build_at_runtime"])
        if self.gpu.memory:
            (folder / "assets" / f"trt-serialized-engine.{ENGINE}").write_bytes(b"engine")


def replaced_by_calls(folder: Path, to: Path) -> Path:
    """A copy of a converted build that calls the operations in its segments, so that it runs anywhere."""
    shutil.copytree(folder, to)
    saved_model = read_saved_model(to)
    for node in nodes_of(saved_model):
        if node.op == "TRTEngineOp":
            node.op = "PartitionedCall"
            for new, old in [("f", "segment_func"), ("Tin", "InT"), ("Tout", "OutT")]:
                node.attr[new].CopyFrom(node.attr.pop(old))
            for attribute in ("precision_mode", "_allow_build_at_runtime"):
                node.attr.pop(attribute)
        node.input[:] = [name.replace(f"{ENGINE}:out_tensor", f"{ENGINE}:output") for name in node.input]
    (to / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    return to


def _replace_calls(folder: Path, precision: bytes, allow_build_at_runtime: bool) -> None:
    """The one call inside the function that the signature calls becomes a TRTEngineOp."""
    saved_model = read_saved_model(folder)
    functions = {
        function.signature.name: function for function in saved_model.meta_graphs[0].graph_def.library.function
    }
    callers = [name for name in functions if name.startswith("__inference_serve")]
    [(function, call)] = [
        (functions[name], node) for name in callers for node in functions[name].node_def if "Call" in node.op
    ]
    old, call.name, call.op = call.name, ENGINE, "TRTEngineOp"
    for node in function.node_def:
        node.input[:] = [name.replace(f"{old}:output", f"{ENGINE}:out_tensor") for name in node.input]
    segment, types, answers = (call.attr.pop(name) for name in ("f", "Tin", "Tout"))
    call.ClearField("attr")
    call.attr["segment_func"].CopyFrom(segment)
    call.attr["InT"].CopyFrom(types)
    call.attr["OutT"].CopyFrom(answers)
    call.attr["precision_mode"].s = precision
    call.attr["_allow_build_at_runtime"].b = allow_build_at_runtime
    (folder / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    (folder / "assets").mkdir(exist_ok=True)


def _round_to_half(graph: Any) -> None:
    import tensorflow

    for node in graph.node:
        if node.op == "Const" and node.attr["dtype"].type == tensorflow.float32.as_datatype_enum:
            values = tensorflow.make_ndarray(node.attr["value"].tensor)
            half = values.astype(np.float16).astype(np.float32)
            node.attr["value"].tensor.CopyFrom(tensorflow.make_tensor_proto(half))
