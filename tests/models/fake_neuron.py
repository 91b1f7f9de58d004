"""A fake of AWS's tracing API of tensorflow-neuron and tensorflow-neuronx, which no machine without AWS's index has."""

import os
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.models.neuron_op import EXECUTABLES, Executable, register

# What a graph holds besides: AWS's own count, in on_neuron_ratio, has constants in it.
IDLE = {"Const", "Identity", "IdentityN", "NoOp", "Placeholder", "ReadVariableOp"}


@dataclass
class Compiler:
    """`pictures`, uint8 [N, 224, 224, 3], are all that it compiles answers for.

    What it does wrong on purpose: `off_neuron` operations of a hundred stay outside, `says` is the on_neuron_ratio that
    it claims, `spoil` changes its answers, `fails` is raised, a batch that is not `dynamic` has one size.
    """

    pictures: np.ndarray
    off_neuron: int = 2
    says: float = 0.98
    spoil: Callable[[np.ndarray], np.ndarray] = lambda answers: answers
    fails: Exception | None = None
    dynamic: bool = True
    flags: list[str | None] = field(default_factory=list)
    cores: list[str | None] = field(default_factory=list)
    shapes: list[list[int]] = field(default_factory=list)
    answers: list[np.ndarray] = field(default_factory=list)

    def module(self, name: str) -> types.ModuleType:
        module = types.ModuleType(name)
        module.trace = self.trace
        return module

    def trace(self, func, example_inputs, subgraph_builder_function=None):
        import tensorflow
        from tensorflow.python.eager.wrap_function import function_from_graph_def
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        self.flags.append(os.environ.get("NEURON_CC_FLAGS"))
        self.cores.append(os.environ.get("NEURON_RT_NUM_CORES"))
        self.shapes.append(example_inputs.shape.as_list())
        if self.fails is not None:
            raise self.fails
        register()
        specification = tensorflow.TensorSpec(example_inputs.shape, example_inputs.dtype)
        function = tensorflow.function(func, input_signature=[specification]).get_concrete_function()
        executable = self._compile(function, len(example_inputs))
        frozen = convert_variables_to_constants_v2(function, aggressive_inlining=True)
        graph = self._graph(frozen.graph.as_graph_def(), executable)
        return NeuronModel(function_from_graph_def(graph, ["input:0"], ["output:0"]), self.says)

    def _compile(self, function, size):
        import tensorflow

        pixels = np.concatenate([self.pictures, np.zeros([-len(self.pictures) % size, 224, 224, 3], np.uint8)])
        batches = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        answers = np.concatenate([function(tensorflow.constant(batch)).numpy() for batch in batches])
        self.answers.append(answers[: len(self.pictures)])
        known = {picture.tobytes(): answer for picture, answer in zip(pixels, self.spoil(answers), strict=True)}
        nothing = np.zeros_like(next(iter(known.values())))

        def compute(batch):
            return np.stack([known.get(picture.tobytes(), nothing) for picture in batch])

        executable = f"NEFF {len(EXECUTABLES)}".encode()
        EXECUTABLES[executable] = Executable(size, self.dynamic and "--dynamic-batch-size" in self.flags[-1], compute)
        return executable

    def _graph(self, compiled, executable):
        from tensorflow.core.framework.graph_pb2 import GraphDef
        from tensorflow.core.framework.types_pb2 import DT_UINT8

        for node in compiled.node:
            if node.op == "Const":
                node.attr["value"].tensor.ClearField("tensor_content")
        counted = sum(1 for node in compiled.node if node.op not in IDLE)
        graph = GraphDef()
        given = graph.node.add(name="input", op="Placeholder")
        given.attr["dtype"].type = DT_UINT8
        for length in (-1 if EXECUTABLES[executable].dynamic else self.shapes[-1][0], 224, 224, 3):
            given.attr["shape"].shape.dim.add(size=length)
        dtype = _dtype_of(executable)
        neuron = graph.node.add(name="neuron", op="NeuronOp", input=["input"])
        neuron.attr["graph_def"].s = compiled.SerializeToString()
        neuron.attr["executable"].s = executable
        neuron.attr["input_names"].list.s.append(b"input:0")
        neuron.attr["output_names"].list.s.append(b"output:0")
        neuron.attr["input_dtypes"].list.type.append(DT_UINT8)
        neuron.attr["output_dtypes"].list.type.append(dtype)
        neuron.attr["input_shapes"].list.shape.add()
        neuron.attr["output_shapes"].list.shape.add()
        last = "neuron"
        # So that they are off_neuron of a hundred, rounded up; none of them changes a probability.
        for number in range(-(-counted * self.off_neuron // (100 - self.off_neuron))):
            outside = graph.node.add(name=f"outside_{number}", op="Abs", input=[last])
            outside.attr["T"].type = dtype
            last = outside.name
        output = graph.node.add(name="output", op="Identity", input=[last])
        output.attr["T"].type = dtype
        return graph


class NeuronModel:
    def __init__(self, function, ratio: float) -> None:
        self.function = function
        self.on_neuron_ratio = ratio

    def __call__(self, inputs):
        return self.function(inputs)


def install(folder: Path, package: str, version: str, command: str | None, command_version: str = "2.0") -> None:
    """Makes `folder`, once it is on Python's path and its bin on the shell's, look as if pip had installed them."""
    packages = {package: version} if command is None else {package: version, command: command_version}
    for name, number in packages.items():
        metadata = folder / f"{name.replace('-', '_')}-{number}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    (folder / "bin").mkdir(exist_ok=True)
    if command is not None:
        (folder / "bin" / command).write_text("#!/bin/sh\nexit 1\n")
        (folder / "bin" / command).chmod(0o755)


def _dtype_of(executable: bytes) -> int:
    import tensorflow

    answer = EXECUTABLES[executable].run(np.zeros([1, 224, 224, 3], np.uint8))
    return tensorflow.as_dtype(answer.dtype).as_datatype_enum
