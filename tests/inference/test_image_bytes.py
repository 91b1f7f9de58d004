import asyncio
import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import ovmsclient
import pytest
from ovmsclient.tfs_compat.grpc.requests import make_metadata_request, make_predict_request
from ovmsclient.tfs_compat.grpc.tensors import make_ndarray
from ovmsclient.tfs_compat.protos.tensorflow.core.framework.types_pb2 import DataType
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from tests.conftest import post
from tests.inference.model_servers import model_server
from tests.photos import encoded, photographs
from visionserve.errors import InvalidInputError
from visionserve.inference.batcher import Batcher
from visionserve.inference.engine import Signature, TensorSpec
from visionserve.inference.image_bytes import image_bytes_of
from visionserve.vision.pixels import to_input

PHOTOS = photographs()
CAT = encoded(PHOTOS["chelsea"], ".jpg")
COFFEE = encoded(PHOTOS["coffee"])
PIXELS = TensorSpec(np.dtype(np.uint8), (-1, 224, 224, 3))
PROBABILITIES = TensorSpec(np.dtype(np.float32), (-1, 1000))
RESNET = Signature({"input": PIXELS}, {"output": PROBABILITIES})
# Between the graph's exact area filter and to_input's quicker one, see tests/models/test_image_bytes.py.
LARGEST_DIFFERENCE = 0.05


@pytest.fixture(scope="module")
def server(model):
    with model_server("--model", f"resnet50={model}", "--engine", "openvino") as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    return ovmsclient.make_grpc_client(server.grpc)


def classify(client, images):
    """The public client's own request, for the signature that its `predict` has no argument for."""
    request = make_predict_request({"image_bytes": images}, "resnet50").raw_request
    request.model_spec.signature_name = "image_bytes"
    response = client.prediction_service_stub.Predict(request, 60)
    outputs = {name: make_ndarray(tensor) for name, tensor in response.outputs.items()}
    return outputs["classes"], outputs["probabilities"]


def refusal(client, images):
    with pytest.raises(grpc.RpcError) as caught:
        classify(client, images)
    return caught.value.code().name, caught.value.details()


def uses_opencv(process):
    return "/cv2" in Path(f"/proc/{process.pid}/maps").read_text()


def test_opencv_is_loaded_with_the_first_encoded_image_only():
    with model_server("--model", "resnet50=.", "--engine", "null") as server:
        client = ovmsclient.make_grpc_client(server.grpc)
        client.predict({"input": to_input(CAT)[None]}, "resnet50", timeout=60)
        assert not uses_opencv(server.process)
        classify(client, [CAT])
        assert uses_opencv(server.process)


def test_the_cat_is_class_286(client):
    classes, probabilities = classify(client, [CAT])
    assert (classes.dtype, classes.tolist()) == (np.int64, [286])
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (1, 1001))
    assert probabilities.argmax() == 286
    assert probabilities[0, 0] == 0


def test_several_images_are_answered_in_order_and_as_their_pixels_are(client):
    images = [COFFEE, CAT, encoded(PHOTOS["rocket"]), CAT, encoded(PHOTOS["camera"], ".jpg")]
    classes, probabilities = classify(client, images)
    wanted = client.predict({"input": np.stack([to_input(image) for image in images])}, "resnet50", timeout=60)
    np.testing.assert_allclose(probabilities[:, 1:], wanted, rtol=0, atol=1e-5)
    assert classes.tolist() == (wanted.argmax(axis=1) + 1).tolist()
    assert classes.tolist()[:2] == [968, 286]


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (b"hello", "is not an image: send JPEG, PNG, WebP, BMP or GIF."),
        (b"", "is not an image: send JPEG, PNG, WebP, BMP or GIF."),
        (COFFEE[:9000], "is not a complete image: its PNG data are cut off."),
        (
            COFFEE[:16] + (20_000).to_bytes(4, "big") * 2 + COFFEE[24:],
            "has 20000x20000 pixels, more than max_pixels=50000000: send a smaller image.",
        ),
    ],
)
def test_a_broken_image_among_good_ones_is_named(client, broken, sentence):
    assert refusal(client, [CAT, COFFEE, CAT, broken, CAT, b"also not"]) == (
        "INVALID_ARGUMENT",
        f"image_bytes[3] {sentence}",
    )
    assert classify(client, [CAT])[0].tolist() == [286]


def test_a_wrong_request_in_flight_does_not_fail_the_one_beside_it(client):
    with ThreadPoolExecutor(8) as callers:
        wrong = [callers.submit(refusal, client, [CAT, b"hello"]) for _ in range(8)]
        right = [callers.submit(classify, client, [CAT]) for _ in range(8)]
        assert [caller.result()[0].tolist() for caller in right] == [[286]] * 8
        assert {caller.result()[0] for caller in wrong} == {"INVALID_ARGUMENT"}


def test_a_request_of_no_images_or_of_pixels_is_an_invalid_argument(client):
    assert refusal(client, np.zeros(0, "S1"))[0] == "INVALID_ARGUMENT"
    assert refusal(client, np.zeros((1, 224, 224, 3), np.uint8))[0] == "INVALID_ARGUMENT"
    assert refusal(client, np.array([[CAT]]))[0] == "INVALID_ARGUMENT"


def test_more_images_than_fit_in_memory_are_refused_before_they_are_decoded(client):
    assert refusal(client, [b"x"] * 2000) == (
        "INVALID_ARGUMENT",
        "image_bytes has 2000 images, more than 1783: send them in several requests.",
    )


def test_metadata_has_both_signatures(client):
    response = client.prediction_service_stub.GetModelMetadata(make_metadata_request("resnet50").raw_request, 60)
    signatures = SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    described = {
        key: [
            {name: (DataType.Name(info.dtype), [dim.size for dim in info.tensor_shape.dim]) for name, info in side}
            for side in (signature.inputs.items(), signature.outputs.items())
        ]
        for key, signature in signatures.signature_def.items()
    }
    assert described == {
        "serving_default": [
            {"input": ("DT_UINT8", [-1, 224, 224, 3])},
            {"output": ("DT_FLOAT", [-1, 1000])},
        ],
        "image_bytes": [
            {"image_bytes": ("DT_STRING", [-1])},
            {"classes": ("DT_INT64", [-1]), "probabilities": ("DT_FLOAT", [-1, 1001])},
        ],
    }


def test_over_rest_the_images_are_base64(server):
    image = {"b64": base64.b64encode(CAT).decode()}
    answer = post(
        server.url("/v1/models/resnet50:predict"), json={"signature_name": "image_bytes", "instances": [image]}
    )
    [prediction] = answer.json()["predictions"]
    assert prediction["classes"] == 286
    assert len(prediction["probabilities"]) == 1001


def test_the_tensorflow_engine_offers_it_too(model):
    with model_server("--model", f"resnet50={model}", "--engine", "tensorflow") as server:
        assert classify(ovmsclient.make_grpc_client(server.grpc), [CAT, COFFEE])[0].tolist() == [286, 968]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_server_and_the_model_s_own_graph_give_photographs_the_same_classes(client, model, suffix):
    import tensorflow

    own = tensorflow.saved_model.load(str(model / "1")).signatures["image_bytes"]
    images = [encoded(photo, suffix) for photo in PHOTOS.values()]
    classes, probabilities = classify(client, images)
    given = own(image_bytes=tensorflow.constant(images))
    difference = np.abs(probabilities - given["probabilities"].numpy()).max()
    print(f"{len(images)} photographs as {suffix}: probabilities differ by {difference:.2g} at most")
    assert classes.tolist() == given["classes"].numpy().tolist()
    assert difference <= LARGEST_DIFFERENCE


class SteppedEngine:
    """Stands in for a real one to show which requests share a batch: it takes one each time the test lets it."""

    slots = 1
    signature = RESNET

    def __init__(self):
        self.batches = []
        self._steps = threading.Semaphore(0)

    def step(self, times):
        self._steps.release(times)

    def infer(self, inputs):
        self.batches.append(len(inputs["input"]))
        assert self._steps.acquire(timeout=30)
        return {"output": np.eye(1000, dtype=np.float32)[inputs["input"][:, 0, 0, 0]]}


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario, 60))


def images(*files):
    array = np.empty(len(files), object)
    array[:] = files
    return {"image_bytes": array}


def test_encoded_images_and_pixels_share_batches():
    engine = SteppedEngine()
    signature = image_bytes_of(RESNET, threads=2)

    async def scenario():
        batcher = Batcher(engine, max_batch_size=8)
        try:
            first = asyncio.create_task(batcher.infer({"input": np.zeros((1, 224, 224, 3), np.uint8)}))
            while engine.batches != [1]:
                await asyncio.sleep(0.005)
            decoded = []

            async def infer(inputs):
                decoded.append(inputs)
                return await batcher.infer(inputs)

            by_bytes = asyncio.create_task(signature.infer(images(CAT, COFFEE), infer))
            by_pixels = asyncio.create_task(batcher.infer({"input": np.full((1, 224, 224, 3), 7, np.uint8)}))
            while not decoded:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0)
            engine.step(2)
            await asyncio.gather(first, by_bytes, by_pixels)
            assert engine.batches == [1, 3]
            assert (await by_pixels)["output"].argmax() == 7
            wanted = [int(to_input(image)[0, 0, 0]) + 1 for image in (CAT, COFFEE)]
            assert (await by_bytes)["classes"].tolist() == wanted
        finally:
            batcher.close()
            signature.close()

    run(scenario())


def test_what_the_model_raises_reaches_the_caller_and_a_broken_image_never_reaches_the_model():
    signature = image_bytes_of(RESNET, threads=1)
    calls = []

    async def full(inputs, sentence):
        calls.append(inputs["input"].shape)
        raise InvalidInputError(sentence)

    async def scenario():
        with pytest.raises(InvalidInputError, match="the line is full"):
            await signature.infer(images(CAT), partial(full, sentence="the line is full"))
        with pytest.raises(InvalidInputError, match=r"image_bytes\[1\] is not an image"):
            await signature.infer(images(CAT, b"?", CAT), partial(full, sentence="not reached"))

    try:
        run(scenario())
    finally:
        signature.close()
    assert calls == [(1, 224, 224, 3)]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"input": TensorSpec(np.dtype(np.float32), (-1, 224, 224, 3))}, {"output": PROBABILITIES}),
        ({"input": TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))}, {"output": PROBABILITIES}),
        ({"input": TensorSpec(np.dtype(np.uint8), (-1, 3, 224, 224))}, {"output": PROBABILITIES}),
        ({"input": PIXELS}, {"boxes": TensorSpec(np.dtype(np.float32), (-1, 100, 6))}),
        ({"input": PIXELS}, {"output": PROBABILITIES, "features": PROBABILITIES}),
        ({"left": PIXELS, "right": PIXELS}, {"output": PROBABILITIES}),
        ({"image_bytes": TensorSpec(np.dtype(object), (-1,))}, {"output": PROBABILITIES}),
    ],
)
def test_a_model_that_is_no_image_classifier_has_no_such_signature(inputs, outputs):
    assert image_bytes_of(Signature(inputs, outputs), threads=1) is None
