"""numpy arrays as TensorFlow's TensorProto and back, without TensorFlow."""

import math

import numpy as np
from ovmsclient import make_tensor_proto
from ovmsclient.tfs_compat.grpc.tensors import NP_TO_TENSOR_MAP, TENSOR_TO_NP_MAP, make_ndarray
from ovmsclient.tfs_compat.protos.tensorflow.core.framework.tensor_pb2 import TensorProto
from ovmsclient.tfs_compat.protos.tensorflow.core.framework.types_pb2 import DataType

MAX_TENSOR_BYTES = 256 << 20

request_tensor = make_tensor_proto


def data_type(dtype: np.dtype) -> int:
    """The protocol's DT_ number of a numpy dtype."""
    return NP_TO_TENSOR_MAP[dtype.type].TensorDtype


def type_name(proto: TensorProto) -> str:
    return DataType.Name(proto.dtype).removeprefix("DT_").lower()


def response_tensor(array: np.ndarray) -> TensorProto:
    """As TensorFlow Serving answers: floats in `float_val`, where Cortex's client looks for them."""
    if array.dtype != np.float32:
        return make_tensor_proto(array)
    proto = TensorProto(dtype=DataType.DT_FLOAT)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    proto.float_val.extend(array.ravel().tolist())
    return proto


def array_of(proto: TensorProto) -> np.ndarray:
    """The array in a tensor; a view of its bytes where the protocol allows. Raises ValueError in one sentence."""
    shape = [dimension.size for dimension in proto.tensor_shape.dim]
    if any(size < 0 for size in shape):
        raise ValueError(f"has the shape {shape}, but a tensor's sizes are not negative")
    if proto.dtype not in TENSOR_TO_NP_MAP:
        raise ValueError(f"has the type {type_name(proto)}, which is not supported")
    dtype = np.dtype(TENSOR_TO_NP_MAP[proto.dtype])
    # A tensor may name one value for a whole shape: without this a short message could ask for any memory.
    if math.prod(shape) * max(dtype.itemsize, 1) > MAX_TENSOR_BYTES:
        raise ValueError(f"has the shape {shape}, more than {MAX_TENSOR_BYTES >> 20} MiB")
    if proto.tensor_content and dtype.itemsize:
        if len(proto.tensor_content) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"has {len(proto.tensor_content)} bytes, not what shape {shape} of {dtype} needs")
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    return make_ndarray(proto)
