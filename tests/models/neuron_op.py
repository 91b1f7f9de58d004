"""A fake of the operation that tensorflow-neuron adds to TensorFlow, for machines without Neuron devices.

It is declared as AWS declares it (NeuronOp in aws-neuron-tensorflow), through TensorFlow's C API, so that TensorFlow
saves and loads graphs with it. Like AWS's, it gives compiled code batches of one size only: where the batch is dynamic
it cuts what it is given and fills it up with zeros, else it refuses another size. What that code would compute it
takes from EXECUTABLES.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ATTRIBUTES = (
    "graph_def: string",
    "input_names: list(string)",
    "input_dtypes: list(type) >= 0",
    "input_shapes: list(shape)",
    "output_names: list(string)",
    "output_dtypes: list(type) >= 0",
    "output_shapes: list(shape)",
    "executable: string = ''",
    "input_batch_axis: list(int) = []",
    "output_batch_axis: list(int) = []",
    "model_config: list(int) = []",
)
LONGEST_NAME = 200
INVALID_ARGUMENT = 3


@dataclass
class Executable:
    """`compute`: uint8 [size, 224, 224, 3] -> an array [size, K]."""

    size: int
    dynamic: bool
    compute: Callable[[np.ndarray], np.ndarray]

    def run(self, pixels: np.ndarray) -> np.ndarray:
        fill = np.zeros([-len(pixels) % self.size, *pixels.shape[1:]], np.uint8)
        whole = np.concatenate([pixels, fill])
        answers = [self.compute(whole[start : start + self.size]) for start in range(0, len(whole), self.size)]
        return np.ascontiguousarray(np.concatenate(answers)[: len(pixels)])


# Content of a NeuronOp's attribute -> what it stands for.
EXECUTABLES: dict[bytes, Executable] = {}

_Create = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
_Compute = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_Delete = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_registered: list[object] = []


def register() -> None:
    """Once a process."""
    if _registered:
        return
    import tensorflow

    library = ctypes.CDLL(str(next(Path(tensorflow.__file__).parent.glob("libtensorflow_framework.so*"))))
    for name in (
        "TF_NewOpDefinitionBuilder",
        "TF_NewKernelBuilder",
        "TF_NewStatus",
        "TF_AllocateOutput",
        "TF_TensorData",
    ):
        getattr(library, name).restype = ctypes.c_void_p
    for name in ("TF_Dim", "TF_TensorByteSize"):
        getattr(library, name).restype = ctypes.c_int64
    status = ctypes.c_void_p(library.TF_NewStatus())

    builder = ctypes.c_void_p(library.TF_NewOpDefinitionBuilder(b"NeuronOp"))
    for attribute in ATTRIBUTES:
        library.TF_OpDefinitionBuilderAddAttr(builder, attribute.encode())
    library.TF_OpDefinitionBuilderAddInput(builder, b"input_tensors: input_dtypes")
    library.TF_OpDefinitionBuilderAddOutput(builder, b"output_tensors: output_dtypes")
    library.TF_OpDefinitionBuilderSetIsStateful(builder, ctypes.c_bool(True))
    unknown_shape = ctypes.cast(library.TF_ShapeInferenceContextSetUnknownShape, ctypes.c_void_p)
    library.TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, unknown_shape)
    library.TF_RegisterOpDefinition(builder, status)
    assert library.TF_GetCode(status) == 0

    kernels: list[bytes] = []

    def create(construction: int) -> int:
        name = ctypes.create_string_buffer(LONGEST_NAME)
        library.TF_OpKernelConstruction_GetAttrString(
            ctypes.c_void_p(construction), b"executable", name, ctypes.c_size_t(LONGEST_NAME), status
        )
        kernels.append(name.value)
        return len(kernels)

    def compute(kernel: int, context: int) -> None:
        given, own = ctypes.c_void_p(), ctypes.c_void_p(library.TF_NewStatus())
        library.TF_GetInput(ctypes.c_void_p(context), 0, ctypes.byref(given), own)
        shape = [library.TF_Dim(given, axis) for axis in range(library.TF_NumDims(given))]
        data = ctypes.string_at(library.TF_TensorData(given), library.TF_TensorByteSize(given))
        executable = EXECUTABLES[kernels[kernel - 1]]
        if not executable.dynamic and shape[0] != executable.size:
            library.TF_SetStatus(own, INVALID_ARGUMENT, b"incorrect shape found on input tensor input:0")
            library.TF_OpKernelContext_Failure(ctypes.c_void_p(context), own)
            return
        answer = executable.run(np.frombuffer(data, np.uint8).reshape(shape))
        dimensions = (ctypes.c_int64 * answer.ndim)(*answer.shape)
        dtype = tensorflow.as_dtype(answer.dtype).as_datatype_enum
        output = ctypes.c_void_p(
            library.TF_AllocateOutput(
                ctypes.c_void_p(context), 0, dtype, dimensions, answer.ndim, ctypes.c_size_t(answer.nbytes), own
            )
        )
        ctypes.memmove(library.TF_TensorData(output), answer.tobytes(), answer.nbytes)
        library.TF_DeleteTensor(given)
        library.TF_DeleteTensor(output)
        library.TF_DeleteStatus(own)

    callbacks = [_Create(create), _Compute(compute), _Delete(lambda _: None)]
    kernel_builder = ctypes.c_void_p(library.TF_NewKernelBuilder(b"NeuronOp", b"CPU", *callbacks))
    library.TF_RegisterKernelBuilder(b"NeuronOp", kernel_builder, status)
    assert library.TF_GetCode(status) == 0
    # TensorFlow keeps their addresses.
    _registered.extend(callbacks)
