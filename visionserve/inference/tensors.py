"""numpy arrays as TensorFlow's TensorProto and back, without TensorFlow."""

import math
from typing import Any

import numpy as np
from ovmsclient.tfs_compat.grpc.tensors import NP_TO_TENSOR_MAP, TENSOR_DTYPE_TO_PROTOFIELD, TENSOR_TO_NP_MAP
from ovmsclient.tfs_compat.protos.tensorflow.core.framework.tensor_pb2 import TensorProto
from ovmsclient.tfs_compat.protos.tensorflow.core.framework.types_pb2 import DataType

MAX_TENSOR_BYTES = 256 << 20
# Of a tensor whose last value stands for all that follow.
MAX_FILLED_BYTES = 64 << 20
FLOAT_VAL = TensorProto.DESCRIPTOR.fields_by_name["float_val"].number
# Numbers that the protocol keeps as other numbers.
STORED_AS = {np.float16: np.uint16, np.complex64: np.float32, np.complex128: np.float64}


def data_type(dtype: np.dtype) -> int:
    """The protocol's DT_ number of a numpy dtype; arrays of objects are strings."""
    return DataType.DT_STRING if dtype.kind in "OSU" else NP_TO_TENSOR_MAP[dtype.type].TensorDtype


def type_name(proto: TensorProto) -> str:
    known = proto.dtype in DataType.values()
    return DataType.Name(proto.dtype).removeprefix("DT_").lower() if known else f"number {proto.dtype}"


def write_request(array: np.ndarray, proto: TensorProto) -> None:
    """Fills an empty tensor with array, of any shape: numbers as their bytes, which is the shortest way."""
    if array.dtype.kind in "OSU":
        write_response(array, proto)
        return
    proto.dtype = data_type(array.dtype)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_content = array.tobytes()


def write_response(array: np.ndarray, proto: TensorProto) -> None:
    """Fills an empty tensor as TensorFlow Serving does (Tensor::AsProtoField), where Cortex's client looks for floats.

    array: any shape, of numbers, or of `bytes` or `str` for strings.
    """
    if array.dtype == np.float32:
        proto.MergeFromString(_float_tensor(array))
        return
    proto.dtype = data_type(array.dtype)
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    flat = array.ravel()
    if array.dtype.kind in "OSU":
        proto.string_val.extend(item.encode() if isinstance(item, str) else item for item in flat.tolist())
    else:
        flat = flat.view(STORED_AS.get(array.dtype.type, array.dtype))
        getattr(proto, TENSOR_DTYPE_TO_PROTOFIELD[proto.dtype]).extend(flat.tolist())


def array_of(proto: TensorProto) -> np.ndarray:
    """The array in a tensor; a view of its bytes where the protocol allows, for strings an array of `bytes` objects.

    Raises ValueError in one sentence.
    """
    shape = [dimension.size for dimension in proto.tensor_shape.dim]
    if any(size < 0 for size in shape):
        raise ValueError(f"has the shape {shape}, but a tensor's sizes are not negative")
    if proto.dtype not in TENSOR_TO_NP_MAP:
        raise ValueError(f"has the type {type_name(proto)}, which is not supported")
    dtype = np.dtype(object if proto.dtype == DataType.DT_STRING else TENSOR_TO_NP_MAP[proto.dtype])
    size = math.prod(shape)
    if size * dtype.itemsize > MAX_TENSOR_BYTES:
        raise ValueError(f"has the shape {shape}, more than {MAX_TENSOR_BYTES >> 20} MiB")
    # Every look at the field copies it.
    content = proto.tensor_content
    if content and dtype.kind != "O":
        if len(content) != size * dtype.itemsize:
            raise ValueError(f"has {len(content)} bytes, not what shape {shape} of {dtype} needs")
        return np.frombuffer(content, dtype).reshape(shape)
    values = _values(proto, dtype)
    if len(values) > size:
        raise ValueError(f"has {len(values)} values, more than the shape {shape} holds")
    if len(values) < size:
        if size * dtype.itemsize > MAX_FILLED_BYTES:
            raise ValueError(f"has {len(values)} values for the shape {shape}: send all of them")
        last = values[-1] if len(values) else (b"" if dtype.kind == "O" else 0)
        values = np.concatenate([values, np.full(size - len(values), last, dtype)])
    return values.reshape(shape)


def _values(proto: TensorProto, dtype: np.dtype) -> np.ndarray:
    field = getattr(proto, TENSOR_DTYPE_TO_PROTOFIELD[proto.dtype])
    if dtype.kind == "O":
        strings = np.empty(len(field), object)
        strings[:] = field[:]
        return strings
    if dtype == np.float32 and (floats := _packed_floats(proto)) is not None:
        return floats
    try:
        return np.array(field[:], STORED_AS.get(dtype.type, dtype)).view(dtype)
    except (OverflowError, ValueError) as error:
        raise ValueError(f"does not fit {dtype}: {error}") from error


def _float_tensor(array: np.ndarray) -> bytes:
    """The wire form of a float tensor: a packed repeated float field is the little-endian bytes of its numbers.

    https://protobuf.dev/programming-guides/encoding/; adding the numbers one by one takes six times as long and more.
    """
    sizes = b"".join(_field(2, b"\x08" + _varint(size)) for size in array.shape)
    numbers = array.astype("<f4", copy=False).tobytes()
    return b"\x08" + _varint(DataType.DT_FLOAT) + _field(2, sizes) + (_field(FLOAT_VAL, numbers) if numbers else b"")


def _packed_floats(proto: TensorProto) -> np.ndarray | None:
    """The numbers in float_val when they are the end of the message's wire form, as they are in every usual one."""
    fields: Any = proto.ListFields()
    if fields[-1][0].number != FLOAT_VAL:
        return None
    wire = proto.SerializeToString()
    size = 4 * len(fields[-1][1])
    head = _field_head(FLOAT_VAL, size)
    if not wire.endswith(head, 0, len(wire) - size):
        return None
    return np.frombuffer(wire, "<f4", offset=len(wire) - size).astype(np.float32)


def _field(number: int, content: bytes) -> bytes:
    return _field_head(number, len(content)) + content


def _field_head(number: int, size: int) -> bytes:
    return bytes([number << 3 | 2]) + _varint(size)


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
