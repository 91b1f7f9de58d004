import json
import signal
import subprocess
import sys

import numpy as np
import ovmsclient
import pytest

from tests.conftest import free_port
from tests.photos import encoded, photographs
from visionserve.errors import InvalidInputError, ModelUnavailableError, UsageError
from visionserve.inference.client import ServingClient
from visionserve.vision.pixels import to_input


@pytest.fixture(scope="module")
def address(model, tmp_path_factory):
    address = f"127.0.0.1:{free_port()}"
    models = [{"name": name, "path": str(model), "engine": "openvino", "threads": 2} for name in ("resnet50", "twin")]
    settings = tmp_path_factory.mktemp("server") / "settings.json"
    settings.write_text(json.dumps({"address": address, "models": models}))
    command = [sys.executable, "-m", "visionserve.inference.model_server", str(settings)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == f"serving resnet50, twin with openvino on {address}\n"
    yield address
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


@pytest.fixture(scope="module")
def public_client(address):
    return ovmsclient.make_grpc_client(address)


# Of a client that would wait for 10.
SECONDS = 60
CAT = to_input(encoded(photographs()["chelsea"]))[None]


def test_a_public_client_gets_probabilities(public_client):
    probabilities = public_client.predict({"input": CAT}, "resnet50", timeout=SECONDS)
    assert probabilities.shape == (1, 1000)
    assert probabilities.dtype == np.float32
    assert probabilities.sum() == pytest.approx(1, abs=1e-4)
    assert probabilities.argmax() == 285


def test_a_public_client_reads_status_and_metadata(public_client):
    assert public_client.get_model_status("resnet50", timeout=SECONDS)[1]["state"] == "AVAILABLE"
    metadata = public_client.get_model_metadata("resnet50", timeout=SECONDS)
    assert metadata["inputs"]["input"] == {"shape": [-1, 224, 224, 3], "dtype": "DT_UINT8"}
    assert metadata["outputs"]["output"] == {"shape": [-1, 1000], "dtype": "DT_FLOAT"}


def test_an_unknown_model_or_version_is_not_found(public_client):
    with pytest.raises(ovmsclient.ModelNotFoundError, match="ask for one of resnet50, twin"):
        public_client.predict({"input": CAT}, "vgg", timeout=SECONDS)
    with pytest.raises(ovmsclient.ModelNotFoundError, match="Version 7"):
        public_client.predict({"input": CAT}, "resnet50", 7, timeout=SECONDS)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"input": CAT.astype(np.float32)}, "is uint8, not float32"),
        ({"input": CAT[:, :100]}, r"\[-1, 224, 224, 3\], not \[1, 100, 224, 3\]"),
        ({"image": CAT}, r"takes the inputs \['input'\], not \['image'\]"),
        ({"input": CAT[:0]}, "batch size of at least 1"),
    ],
)
def test_an_input_that_does_not_fit_is_an_invalid_argument(public_client, inputs, sentence):
    with pytest.raises(ovmsclient.InvalidInputError, match=sentence):
        public_client.predict(inputs, "resnet50", timeout=SECONDS)
    assert public_client.predict({"input": CAT}, "resnet50", timeout=SECONDS).argmax() == 285


def test_our_client_has_the_interface_of_cortex(address):
    client = ServingClient(address, {"resnet50": "serving_default", "twin": "serving_default"})
    outputs = client.predict({"input": np.concatenate([CAT, CAT])}, "twin")
    assert outputs["output"].argmax(axis=1).tolist() == [285, 285]
    assert client.predict({"input": CAT}, "twin", "1")["output"].argmax() == 285
    assert client.input_signatures()["twin"]["input_signatures"]["input"]["type"] == "uint8"
    assert client.available(timeout=SECONDS)
    with pytest.raises(UsageError, match="one of resnet50, twin"):
        client.predict({"input": CAT})
    with pytest.raises(InvalidInputError, match="is uint8, not int64"):
        client.predict({"input": CAT.astype(int)}, "twin")
    client.close()


def test_no_server_is_said_in_one_sentence():
    client = ServingClient(f"127.0.0.1:{free_port()}", {"resnet50": "serving_default"}, timeout=5)
    with pytest.raises(ModelUnavailableError, match="does not answer"):
        client.predict({"input": CAT})
    assert not client.available(timeout=0.2)
    with pytest.raises(ModelUnavailableError, match=r"is not available at 127.0.0.1:.* after 0\.2 s"):
        client.wait_until_available(0.2)
    client.close()
