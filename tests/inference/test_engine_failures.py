import json
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests
from ovmsclient import make_tensor_proto
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.conftest import free_port

SERVER = Path(__file__).with_name("failing_server.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The gRPC and REST addresses of a server of a fake engine that raises."""
    folder = tmp_path_factory.mktemp("server")
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    models = [{"name": "fake", "path": str(folder), "max_batch_size": 4, "batch_interval": 0.05}]
    settings = {"address": addresses[0], "rest_address": addresses[1], "models": models}
    (folder / "settings.json").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [sys.executable, str(SERVER), str(folder / "settings.json")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("serving fake")
    yield addresses
    process.terminate()
    assert process.wait(60) == 0


def image(first: int) -> np.ndarray:
    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    pixels[0, 0, 0, 0] = first
    return pixels


@pytest.mark.parametrize("bad", [13, 14])
def test_a_fake_engine_that_raises_fails_its_request_alone_with_internal_and_the_server_lives(server, bad):
    with grpc.insecure_channel(server[0]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def call(first: int):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "fake"
            request.inputs["input"].CopyFrom(make_tensor_proto(image(first)))
            return stub.Predict.future(request, timeout=60)

        calls = {first: call(first) for first in (1, bad, 2)}
        for first in (1, 2):
            assert set(calls[first].result().outputs["output"].float_val) == {first}
        with pytest.raises(grpc.RpcError) as raised:
            calls[bad].result()
    assert raised.value.code() == grpc.StatusCode.INTERNAL
    reason = {13: "The fake engine failed on the batch.", 14: "ZeroDivisionError"}[bad]
    assert reason in raised.value.details()


@pytest.mark.parametrize("bad", [13, 14])
def test_over_rest_it_is_a_500_with_one_sentence(server, bad):
    url = f"http://{server[1]}/v1/models/fake:predict"
    refused = requests.post(url, json={"instances": image(bad).tolist()}, timeout=60)
    assert refused.status_code == 500
    assert refused.json()["error"]
    answered = requests.post(url, json={"instances": image(1).tolist()}, timeout=60)
    assert answered.json()["predictions"][0][:2] == [1, 1]
