import sys

import grpc
import numpy as np
import pytest
from ovmsclient import make_tensor_proto
from ovmsclient.tfs_compat.protos.tensorflow.core.framework.tensor_pb2 import TensorProto
from ovmsclient.tfs_compat.protos.tensorflow.core.framework.types_pb2 import DataType
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    regression_pb2,
)

from tests.conftest import run
from tests.inference.repositories import BLACK, add_version, predict_request, serving
from visionserve.inference import tensors


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real server of two versions of a model of the null engine."""
    folder = tmp_path_factory.mktemp("server")
    for version in (3, 4):
        add_version(folder / "a", version)
    with serving(folder, {"name": "a", "path": folder / "a", "version_policy": {"kind": "all"}}) as server:
        yield server


def refused(call, request):
    """The code and the sentence of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=60)
    return caught.value.code().name, caught.value.details()


def test_an_answer_says_which_model_version_and_signature_gave_it(server):
    for asked, answered in ((None, 4), (0, 4), (3, 3)):
        spec = server.prediction.Predict(predict_request("a", asked), timeout=60).model_spec
        assert (spec.name, spec.version.value, spec.signature_name) == ("a", answered, "serving_default")


def test_floats_are_answered_in_float_val(server):
    answer = server.prediction.Predict(predict_request("a", input=np.repeat(BLACK, 3, axis=0)), timeout=60)
    proto = answer.outputs["output"]
    assert [dimension.size for dimension in proto.tensor_shape.dim] == [3, 1000]
    assert list(proto.float_val) == [np.float32(1e-3)] * 3000
    assert (proto.dtype, proto.tensor_content) == (DataType.DT_FLOAT, b"")


def test_only_the_outputs_of_the_filter_are_answered(server):
    request = predict_request("a")
    request.output_filter.append("output")
    assert list(server.prediction.Predict(request, timeout=60).outputs) == ["output"]
    request.output_filter.append("output")
    assert refused(server.prediction.Predict, request) == (
        "INVALID_ARGUMENT",
        "output_filter names an output twice: ['output', 'output'].",
    )
    request.output_filter[:] = ["logits"]
    assert refused(server.prediction.Predict, request) == (
        "INVALID_ARGUMENT",
        "The model gives the outputs ['output'], not 'logits' of output_filter.",
    )


def test_refusals_have_the_codes_of_tensorflow_serving(server):
    unnamed, signature, dtype, shape = (predict_request("a") for _ in range(4))
    unnamed.model_spec.name = ""
    signature.model_spec.signature_name = "other"
    dtype.inputs["input"].CopyFrom(make_tensor_proto(BLACK.astype(np.float32)))
    shape.inputs["input"].CopyFrom(make_tensor_proto(BLACK[:, :8]))
    wanted = {
        "NOT_FOUND": [(predict_request("b"), "ask for one of a"), (predict_request("a", 9), "ask for 3, 4")],
        "FAILED_PRECONDITION": [(signature, "has no signature 'other'")],
        "INVALID_ARGUMENT": [
            (unnamed, "model_spec has no name"),
            (predict_request("a", label="stable"), "has no version label 'stable'"),
            (dtype, "is uint8, not float32"),
            (shape, "not [1, 8, 224, 3]"),
        ],
    }
    for code, requests in wanted.items():
        for request, words in requests:
            answered = refused(server.prediction.Predict, request)
            assert answered[0] == code
            assert words in answered[1]


def test_metadata_is_the_signatures_and_other_fields_are_refused(server):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "a"
    response = server.prediction.GetModelMetadata(request, timeout=60)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["input"].dtype == DataType.DT_UINT8
    assert (response.model_spec.name, response.model_spec.version.value) == ("a", 4)
    request.metadata_field[:] = []
    assert refused(server.prediction.GetModelMetadata, request)[0] == "INVALID_ARGUMENT"
    request.metadata_field[:] = ["signature_def", "assets"]
    assert refused(server.prediction.GetModelMetadata, request) == (
        "INVALID_ARGUMENT",
        "There is no metadata_field 'assets': ask for signature_def.",
    )


def test_status_is_of_every_version_or_of_the_one_asked_for(server):
    assert server.states("a") == {3: "AVAILABLE", 4: "AVAILABLE"}
    assert server.statuses("a", 3) == {3: ("AVAILABLE", "")}
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "b"
    assert refused(server.service.GetModelStatus, request)[0] == "NOT_FOUND"


def test_what_is_not_served_is_unimplemented(server):
    for call, request in (
        (server.prediction.Classify, classification_pb2.ClassificationRequest()),
        (server.prediction.Regress, regression_pb2.RegressionRequest()),
        (server.prediction.MultiInference, inference_pb2.MultiInferenceRequest()),
        (server.service.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest()),
    ):
        assert refused(call, request)[0] == "UNIMPLEMENTED"


def test_a_call_whose_deadline_passes_or_whose_client_goes_leaves_the_queue_of_a_fake_engine(tmp_path):
    # In a process of its own: an event loop of gRPC's that is cleaned up by the garbage collector may wait forever.
    done = run([sys.executable, "-m", "tests.inference.given_up_calls", str(tmp_path)], timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "batches [[1], [4]], the model retired\n"


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 2), (2, 300)])
def test_numbers_come_back_from_a_response_as_they_were(dtype, shape):
    array = np.random.default_rng(7).integers(0, 100, shape).astype(dtype)
    proto = TensorProto()
    tensors.write_response(array, proto)
    assert proto.tensor_content == b""
    read = tensors.array_of(TensorProto.FromString(proto.SerializeToString()))
    assert read.dtype == array.dtype
    assert read.shape == shape
    assert (read == array).all()


def test_strings_come_back_as_bytes_of_any_content():
    proto = TensorProto()
    tensors.write_response(np.array([[b"\xff\xd8\0\0"], ["é"]], object), proto)
    assert tensors.array_of(proto).tolist() == [[b"\xff\xd8\0\0"], ["é".encode()]]


def test_few_values_stand_for_a_whole_shape_as_in_tensorflow():
    proto = TensorProto(dtype=DataType.DT_FLOAT, float_val=[1, 2])
    proto.tensor_shape.dim.add(size=4)
    assert tensors.array_of(proto).tolist() == [1, 2, 2, 2]
    proto.ClearField("float_val")
    assert tensors.array_of(proto).tolist() == [0, 0, 0, 0]


def test_floats_are_read_right_beside_fields_that_do_not_belong_to_them():
    proto = TensorProto(dtype=DataType.DT_FLOAT, float_val=[1, 2], int_val=[3], string_val=[b"*\x08" + bytes(8)])
    proto.tensor_shape.dim.add(size=2)
    assert tensors.array_of(proto).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("fields", "size", "sentence"),
    [
        ({"dtype": DataType.DT_UINT8, "int_val": [300]}, 1, "does not fit uint8"),
        ({"dtype": DataType.DT_FLOAT, "float_val": [1, 2]}, 1, "has 2 values, more than the shape [1] holds"),
        ({"dtype": DataType.DT_FLOAT, "tensor_content": b"123"}, 1, "has 3 bytes"),
        ({"dtype": DataType.DT_COMPLEX64, "scomplex_val": [1, 2, 3]}, 2, "does not fit complex64"),
        ({"dtype": DataType.DT_BFLOAT16}, 1, "has the type bfloat16, which is not supported"),
        ({"dtype": DataType.DT_FLOAT, "float_val": [1]}, 1 << 40, "more than 256 MiB"),
        ({"dtype": DataType.DT_FLOAT}, -1, "sizes are not negative"),
    ],
)
def test_a_tensor_that_is_wrong_is_an_invalid_argument(server, fields, size, sentence):
    request = predict_request("a")
    proto = TensorProto(**fields)
    proto.tensor_shape.dim.add(size=size)
    request.inputs["input"].CopyFrom(proto)
    code, details = refused(server.prediction.Predict, request)
    assert code == "INVALID_ARGUMENT"
    assert details.startswith("Input input ")
    assert sentence in details
