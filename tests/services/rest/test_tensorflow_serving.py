"""Before a TensorFlow Serving elsewhere. None runs here: our model server, which speaks both of its protocols, stands
in for it, and where the decoding counts, with TensorFlow running the model's own graph."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import free_port, wait_for
from tests.inference.model_servers import model_server
from tests.photos import encoded, photographs
from tests.services.rest.rest_services import error, rest_service

pytestmark = pytest.mark.slow

CAT = encoded(photographs()["chelsea"], ".jpg")
COFFEE = encoded(photographs()["coffee"])
GIF = b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
PROTOCOLS = ("grpc", "rest")


def without_images(folder):
    """A model that has no signature for images."""
    import openvino
    from openvino import opset13

    numbers = opset13.parameter([-1, 4], np.float32, name="numbers")
    model = openvino.Model([opset13.relu(numbers)], [numbers])
    for tensor, name in ((model.inputs[0], "input"), (model.outputs[0], "output")):
        tensor.tensor.set_names({name})
    openvino.save_model(model, folder / "1" / "model.xml")
    return folder


@pytest.fixture(scope="module")
def graph(model, tmp_path_factory):
    """TensorFlow runs the graph behind `image_bytes`, decoding included. -> address by protocol."""
    addresses = {protocol: f"127.0.0.1:{free_port()}" for protocol in PROTOCOLS}
    served = {"name": "resnet50", "path": str(model), "engine": "tensorflow", "signature_key": "image_bytes"}
    settings = tmp_path_factory.mktemp("graph") / "server.json"
    settings.write_text(
        json.dumps(
            {"address": addresses["grpc"], "rest_address": addresses["rest"], "models": [{**served, "threads": 2}]}
        )
    )
    command = [sys.executable, "-m", "visionserve.inference.model_server", str(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving resnet50 with tensorflow")
            yield {**addresses, "rest": f"http://{addresses['rest']}"}
        finally:
            process.kill()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_model_s_own_graph_decodes_the_picture(graph, tmp_path, protocol):
    with rest_service(tmp_path, "--config", routes(tmp_path), "--tensorflow-serving", graph[protocol]) as service:
        assert service.children() == []
        wait_for(service.healthy)
        assert service.classify(CAT).json() == {"classes": 286}
        answer = service.classify(COFFEE, "?detail=true").json()
        assert (answer["classes"], answer["label"]) == (968, "espresso")
        assert error(service.classify(GIF)) == (
            415,
            "image is a GIF file, which the model does not read: send JPEG or PNG.",
        )


def routes(folder):
    """Models that this machine does not have: their labels are ImageNet's, as they have 1000 classes."""
    file = folder / "models.yaml"
    file.write_text("models: {resnet: {model: resnet50}}")
    return file


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    odd = without_images(tmp_path_factory.mktemp("odd"))
    with model_server("--model", f"resnet50={model}", "--model", f"odd={odd}", "--engine", "openvino") as server:
        yield {"grpc": server.grpc, "rest": f"http://{server.rest}"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_models_that_the_server_cannot_answer_for_are_told_apart_from_wrong_pictures(server, tmp_path, protocol):
    file = tmp_path / "models.yaml"
    file.write_text("models: {resnet: {model: resnet50}, odd: {model: odd}, missing: {model: vgg}}")
    with rest_service(tmp_path, "--config", file, "--tensorflow-serving", server[protocol]) as service:
        # The server has a second or two to say that it has a model.
        wait_for(lambda: error(service.get("/healthz")) == (503, "Not available now: odd, missing."))
        expected = {"resnet": "available", "odd": "unavailable", "missing": "unavailable"}
        wait_for(lambda: {row["route"]: row["status"] for row in service.get("/classify").json()["models"]} == expected)
        assert service.classify(CAT).json() == {"classes": 286}
        broken = COFFEE[:100] + bytes(4000) + COFFEE[4100:]
        status, sentence = error(service.classify(broken))
        assert (status, "image_bytes[0] is a PNG file that" in sentence) == (400, True)
        status, sentence = error(service.classify(CAT, route="odd"))
        assert (status, "has no signature image_bytes" in sentence) == (503, True)
        status, sentence = error(service.classify(CAT, route="missing"))
        assert (status, "'vgg' is not served here" in sentence) == (503, True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_away_at_the_start_is_found_when_it_comes(tmp_path, protocol):
    ports = {"grpc": free_port(), "rest": free_port()}
    address = {"grpc": f"127.0.0.1:{ports['grpc']}/other", "rest": f"http://127.0.0.1:{ports['rest']}/v1/models/other"}
    options = ("--config", routes(tmp_path), "--tensorflow-serving", address[protocol], "--timeout", 5)
    with rest_service(tmp_path, *options) as service:
        assert error(service.get("/healthz")) == (503, "Not available now: resnet.")
        answer = service.classify(CAT)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        null = ("--model", "other=.", "--engine", "null", "--port", ports["grpc"], "--rest-port", ports["rest"])
        with model_server(*null):
            wait_for(service.healthy)
            assert list(service.classify(CAT).json()) == ["classes"]
        assert not service.healthy()
