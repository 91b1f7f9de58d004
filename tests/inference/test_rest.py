import json

import numpy as np
import ovmsclient
import pytest
import requests

from tests.conftest import post
from tests.inference.model_servers import PREDICT, ask, model_server, refusal, request_head
from tests.inference.repositories import add_version
from tests.photos import crops, encoded, photographs
from visionserve.vision.pixels import to_input

CAT = to_input(encoded(photographs()["chelsea"]))
PICTURES = np.stack([CAT, *(to_input(encoded(crop)) for crop in crops(3))])


@pytest.fixture(scope="module")
def server(model):
    with model_server("--model", f"resnet50={model}", "--engine", "openvino") as server:
        yield server


@pytest.fixture(scope="module")
def null_server(tmp_path_factory):
    """For what is refused before any inference: the null engine takes the same inputs."""
    folder = add_version(tmp_path_factory.mktemp("resnet50"), 1).parent
    with model_server("--model", f"resnet50={folder}", "--engine", "null") as server:
        yield server


@pytest.fixture(scope="module")
def probabilities(server):
    """Of PICTURES, as gRPC gives them."""
    return ovmsclient.make_grpc_client(server.grpc).predict({"input": PICTURES}, "resnet50", timeout=60)


def test_a_public_http_client_gets_the_same_numbers_as_over_grpc(server, probabilities):
    client = ovmsclient.make_http_client(server.rest)
    outputs = client.predict({"input": PICTURES}, "resnet50", timeout=60)
    assert outputs.shape == (4, 1000)
    assert outputs[0].argmax() == 285
    assert np.array_equal(outputs.astype(np.float32), probabilities)


def test_numbers_have_as_few_digits_as_a_float32_needs(server):
    answer = post(server.url(PREDICT), json={"instances": [CAT.tolist()]})
    texts = answer.text.removeprefix('{"predictions":[[').removesuffix("]]}").split(",")
    assert len(texts) == 1000
    assert all(len(text.strip("0.").split("e")[0].replace(".", "")) <= 9 for text in texts)


def test_rows_and_columns_named_or_not_give_the_same(server, probabilities):
    pictures = PICTURES.tolist()
    for document in (
        {"instances": pictures},
        {"instances": [{"input": picture} for picture in pictures]},
        {"signature_name": "serving_default", "instances": pictures},
    ):
        assert np.array_equal(np.float32(ask(server, document)["predictions"]), probabilities)
    for document in ({"inputs": pictures}, {"inputs": {"input": pictures}}):
        assert np.array_equal(np.float32(ask(server, document)["outputs"]), probabilities)


def test_an_indented_body_is_the_same_body(server, probabilities):
    answer = post(server.url(PREDICT), data=json.dumps({"instances": [{"input": CAT.tolist()}]}, indent=2))
    assert np.allclose(answer.json()["predictions"], probabilities[:1], atol=1e-5)


@pytest.mark.parametrize("version", ["", "/versions/1", "/versions/0", "/VERSIONS/1"])
def test_a_version_is_named_in_the_path_and_0_is_the_latest(server, version):
    document = {"instances": [CAT.tolist()]}
    assert np.argmax(ask(server, document, f"/v1/models/resnet50{version}:predict")["predictions"]) == 285


STATUS = {
    "model_version_status": [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
}


@pytest.mark.parametrize("path", ["/v1/models/resnet50", "/v1/models/resnet50/versions/1"])
def test_status_is_printed_as_tensorflow_serving_prints_it(null_server, path):
    assert requests.get(null_server.url(path), timeout=60).json() == STATUS


def test_metadata_is_printed_as_tensorflow_serving_prints_it(server):
    document = requests.get(server.url("/v1/models/resnet50/metadata"), timeout=60).json()
    assert document["model_spec"] == {"name": "resnet50", "signature_name": "", "version": "1"}
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    sizes = [{"size": size, "name": ""} for size in ("-1", "224", "224", "3")]
    assert signature["inputs"]["input"] == {
        "name": "input:0",
        "dtype": "DT_UINT8",
        "tensor_shape": {"dim": sizes, "unknown_rank": False},
    }
    assert signature["outputs"]["output"]["dtype"] == "DT_FLOAT"
    # This client reads OpenVINO Model Server's spelling and hands on TensorFlow Serving's as it came.
    assert ovmsclient.make_http_client(server.rest).get_model_metadata("resnet50", timeout=60) == document


def test_a_public_http_client_reads_the_status_and_the_error_codes(null_server):
    client = ovmsclient.make_http_client(null_server.rest)
    available = {1: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    assert client.get_model_status("resnet50", timeout=60) == available
    with pytest.raises(ovmsclient.ModelNotFoundError, match="ask for one of resnet50"):
        client.get_model_status("vgg", timeout=60)
    with pytest.raises(ovmsclient.ModelNotFoundError, match="Version 7"):
        client.predict({"input": CAT[None]}, "resnet50", 7, timeout=60)
    with pytest.raises(ovmsclient.InvalidInputError, match=r"\[1, 100, 224, 3\]"):
        client.predict({"input": CAT[None, :100]}, "resnet50", timeout=60)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/v1/models/vgg", "'vgg' is not served here"),
        ("/v1/models/vgg/metadata", "'vgg' is not served here"),
        ("/v1/models/res%6Eet18", "'resnet18' is not served here"),
        ("/v1/models/resnet50/versions/7", "has no version 7"),
        ("/v2/health/ready", "ask /v1/models/NAME"),
    ],
)
def test_what_is_not_there_is_404(null_server, path, sentence):
    answer = requests.get(null_server.url(path), timeout=60)
    assert answer.status_code == 404
    assert sentence in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/vgg:predict", 404),
        ("/v1/models/resnet50/versions/7:predict", 404),
        ("/v1/models/resnet50/labels/stable:predict", 400),
    ],
)
def test_a_prediction_of_what_is_not_there_is_refused(null_server, path, status):
    """An unknown label is an invalid argument to TensorFlow Serving, as its own REST tests have it."""
    assert refusal(null_server, {"instances": [1]}, path)[0] == status


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PREDICT),
        ("POST", "/v1/models/resnet50"),
        ("PUT", PREDICT),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/resnet50/versions/one"),
        ("POST", "/v1/models/resnet50:explain"),
    ],
)
def test_a_wrong_method_or_path_is_a_malformed_request(null_server, method, path):
    answer = requests.request(method, null_server.url(path), timeout=60)
    assert (answer.status_code, answer.json()) == (400, {"error": f"Malformed request: {method} {path}."})


@pytest.mark.parametrize("method", ["classify", "regress"])
def test_classify_and_regress_point_to_predict(null_server, method):
    status, sentence = refusal(null_server, {"examples": []}, f"/v1/models/resnet50:{method}")
    assert (status, sentence) == (400, f"Model resnet50 has no signature for :{method}: ask :predict.")


LONG = CAT.tolist()


def changed(value, row=200):
    """The cat with one pixel of `row` replaced."""
    return [*LONG[:row], [*LONG[row][:7], value, *LONG[row][8:]], *LONG[row + 1 :]]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"instances": [1, }', "not JSON"),
        ("[" * 5000, "not JSON"),
        (b'{"instances": ["\xff"]}', "not JSON"),
        ("[1]", "The body is a list, not an object"),
        ({}, "one of 'instances' (rows) and 'inputs' (columns)"),
        ({"instances": [1], "inputs": [1]}, "one of 'instances' (rows) and 'inputs' (columns)"),
        ({"instances": []}, "at least one instance"),
        ({"instances": 1}, "at least one instance"),
        ({"inputs": []}, "Input input has the shape [-1, 224, 224, 3], not [0]"),
        ({"signature_name": 1, "instances": [1]}, "signature_name is a whole number, not a string"),
        ({"signature_name": "other", "instances": [1]}, "no signature 'other': ask for one of"),
        ({"instances": [{"image": 1}]}, "takes the inputs ['input'], not ['image']"),
        ({"inputs": {"image": 1}}, "takes the inputs ['input'], not ['image']"),
        ({"instances": [{"input": [1]}, [1]]}, "instances[1] does not have the inputs of instances[0]"),
        ({"instances": [[1], {"input": [1]}]}, "Input input is a ragged list"),
        ({"instances": [[1, 2], [3]]}, "Input input is a ragged list"),
        ({"instances": [[1], 2]}, "Input input is a ragged list"),
        ({"instances": ["1"]}, "Input input is uint8, but it holds a string"),
        ({"instances": [{"b64": "AA=="}]}, "Input input is uint8, but it holds an object"),
        ({"instances": [1.0]}, "Input input is uint8, but it holds a decimal number"),
        ({"instances": [True]}, "Input input is uint8, but it holds a boolean"),
        ({"instances": [None]}, "Input input is uint8, but it holds null"),
        ('{"instances": [NaN]}', "Input input is uint8, but it holds a decimal number"),
        ({"instances": [256]}, "Input input is uint8, 0 to 255, but it holds 256"),
        ({"instances": [-1]}, "Input input is uint8, 0 to 255, but it holds -1"),
        ('{"instances": ' + "[" * 40 + "1" + "]" * 40 + "}", "more than 32 dimensions"),
        ({"instances": [LONG[:100]]}, "[-1, 224, 224, 3], not [1, 100, 224, 3]"),
        ({"instances": [changed([1, 2, 256])]}, "Input input is uint8, 0 to 255, but it holds 256"),
        ({"instances": [changed([1, 2, 2.5])]}, "Input input is uint8, but it holds a decimal number"),
        ({"instances": [changed([1, 2])]}, "Input input is a list with ragged or empty parts"),
        ({"instances": [changed([1, [2], 3])]}, "Input input is a list with ragged or empty parts"),
        ({"instances": [changed([1, "2", 3])]}, "Input input is uint8, but it holds a string"),
        ({"instances": [{"input": LONG}, {"input": LONG[:200]}]}, "Input input is a ragged list"),
        ({"instances": [[[]] * 5000]}, "Input input is a list with ragged or empty parts"),
        (json.dumps({"instances": [LONG]}).replace("], [", "] [", 1), "not JSON"),
        (json.dumps({"instances": [LONG]}).replace("], [", "]7, [", 1), "not JSON"),
        (json.dumps({"instances": [LONG]})[:-2], "not JSON"),
    ],
)
def test_a_wrong_body_is_400_with_one_sentence(null_server, body, sentence):
    status, said = refusal(null_server, body)
    assert status == 400
    assert sentence in said
    assert said.endswith(".")
    assert len(said) < 300


def test_numbers_inside_a_text_stay_text(server):
    text = json.dumps(LONG)
    assert refusal(server, {"instances": [text]})[1] == "Input input is uint8, but it holds a string."
    document = {"comment": [LONG, text], "instances": [LONG]}
    assert np.argmax(ask(server, document)["predictions"]) == 285


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(null_server):
    with null_server.connect() as connection:
        connection.sendall(request_head(PREDICT, 300 << 20))
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413")


def test_half_a_request_and_a_client_that_leaves_harm_nobody(server):
    body = json.dumps({"instances": [LONG]}).encode()
    for sent in (body[: len(body) // 2], body):
        with server.connect() as connection:
            connection.sendall(request_head(PREDICT, len(body)) + sent)
        assert np.argmax(ask(server, {"instances": [LONG]})["predictions"]) == 285
