import grpc
import pytest
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis.predict_pb2 import PredictRequest

from tests.conftest import MODEL
from tests.inference.model_servers import ModelServer, model_server

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


@pytest.fixture(scope="module")
def server(model):
    with model_server("--model", f"resnet50={MODEL}", "--engine", "null") as server:
        yield server


def refusal(server: ModelServer, data: bytes, method: str = PREDICT) -> str:
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(method)
        with pytest.raises(grpc.RpcError) as caught:
            call(data, timeout=60)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        return caught.value.details()


def request(**fields: object) -> bytes:
    message = PredictRequest()
    message.model_spec.name = "resnet50"
    tensor = message.inputs["input"]
    for name, value in fields.items():
        if name == "shape":
            for size in value:
                tensor.tensor_shape.dim.add(size=size)
        elif name == "int_val":
            tensor.int_val.extend(value)
        else:
            setattr(tensor, name, value)
    return message.SerializeToString()


@pytest.mark.parametrize("method", [PREDICT, STATUS])
def test_bytes_that_are_no_message_are_the_clients_mistake(server, method):
    sentence = refusal(server, b"\xff\xff\xff", method)
    assert sentence.startswith(f"The message is none that {method.rpartition('/')[2]} takes: ")


def test_a_type_that_the_protocol_does_not_know_is_named(server):
    assert refusal(server, request(dtype=8151)) == "Input input has the type number 8151, which is not supported."


def test_a_short_message_does_not_stand_for_much_memory(server):
    sentence = refusal(server, request(dtype=4, shape=[1700, 224, 224, 3], int_val=[1, 2]))
    assert sentence == "Input input has 2 values for the shape [1700, 224, 224, 3]: send all of them."
    sentence = refusal(server, request(dtype=4, shape=[1 << 62, 1 << 62], int_val=[1]))
    assert sentence.endswith("more than 256 MiB.")
