import base64

import numpy as np
import ovmsclient
import pytest

from tests.conftest import post
from tests.inference.model_servers import ask, model_server, refusal

PREDICT = "/v1/models/strings:predict"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def strings(tmp_path_factory):
    """A model of two inputs and five outputs that repeats what it gets, among it strings; run by TensorFlow."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 2], tf.float32)])
    def repeat(text, number):
        return {
            "text": text,
            "text_bytes": text,
            "number": number,
            "length": tf.strings.length(text),
            "positive": number[:, 0] > 0,
        }

    folder = tmp_path_factory.mktemp("strings")
    tf.saved_model.save(tf.Module(), str(folder / "1"), signatures=repeat)
    with model_server("--model", f"strings={folder}", "--engine", "tensorflow") as server:
        yield server


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def test_several_outputs_are_objects_in_rows_and_an_object_in_columns(strings):
    rows = [{"text": "caf\u00e9", "number": [1, 0.1]}, {"text": b64(b"\xff\x00"), "number": [-2, 1e30]}]
    answers = [
        {
            "text": "caf\u00e9",
            "text_bytes": b64("caf\u00e9".encode()),
            "number": [1.0, 0.1],
            "length": 5,
            "positive": True,
        },
        {
            "text": b64(b"\xff\x00"),
            "text_bytes": b64(b"\xff\x00"),
            "number": [-2.0, 1e30],
            "length": 2,
            "positive": False,
        },
    ]
    assert ask(strings, {"instances": rows}, PREDICT) == {"predictions": answers}
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert ask(strings, {"inputs": columns}, PREDICT) == {
        "outputs": {name: [answer[name] for answer in answers] for name in answers[0]}
    }


def test_bytes_of_a_public_http_client_arrive(strings):
    client = ovmsclient.make_http_client(strings.rest)
    inputs = {"text": [b"\x89PNG", b""], "number": np.zeros((2, 2), np.float32)}
    outputs = client.predict(inputs, "strings", timeout=60)
    assert outputs["length"].tolist() == [4, 0]


def test_nan_and_infinities_are_tokens(strings):
    body = '{"instances": [{"text": "", "number": [NaN, -Infinity]}, {"text": "", "number": [0.1, Infinity]}]}'
    answer = post(strings.url(PREDICT), data=body)
    assert answer.status_code == 200
    assert '"number": [NaN, -Infinity]' in answer.text
    assert '"number": [0.1, Infinity]' in answer.text


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"text": 1, "number": [1, 2]}, "Input text is string, but it holds a whole number"),
        ({"text": {"b64": "?"}, "number": [1, 2]}, "Input text holds a b64 that is not base64"),
        ({"text": {"b64": 1}, "number": [1, 2]}, 'an object other than {"b64": "..."}'),
        ({"text": "", "number": [1, 1e39]}, "Input number is float32, but it holds 1e+39, which is out of its range"),
        ({"text": "", "number": [1, "2"]}, "Input number is float32, but it holds a string"),
        ({"text": ""}, "takes the inputs ['number', 'text'], not ['text']"),
        ("text", "instances does not name the inputs"),
    ],
)
def test_a_wrong_value_names_its_input(strings, row, sentence):
    status, said = refusal(strings, {"instances": [row]}, PREDICT)
    assert status == 400
    assert sentence in said


@pytest.mark.parametrize("text", ["/9j/4A==", "/9j/4A", "/9j/\n4A=="])
def test_base64_may_be_wrapped_and_unpadded(strings, text):
    row = {"text": {"b64": text}, "number": [1, 2]}
    answer = ask(strings, {"instances": [row]}, PREDICT)
    assert answer["predictions"][0]["text_bytes"] == {"b64": "/9j/4A=="}
