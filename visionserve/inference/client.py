"""Clients with Cortex's TensorFlowClient interface: `predict(model_input, model_name=None, model_version="latest")`."""

import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
import numpy as np
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from visionserve.errors import (
    InferenceError,
    InvalidInputError,
    ModelUnavailableError,
    NotFoundError,
    OverloadedError,
    UsageError,
    VisionserveError,
)
from visionserve.inference import tensors
from visionserve.inference.repository import Repository
from visionserve.inference.tracing import asking
from visionserve.pulse import Pulse

# Seconds to wait for a server that went away in the middle of a request, each time that it does.
PATIENCE = 15.0
# gRPC metadata: which request it is, the same each time it is sent.
REQUEST_ID = "visionserve-request-id"
# gRPC trailing metadata: the server answered, and asking at once again would not help.
RETRY_AFTER = "retry-after"

Signatures = dict[str, dict[str, Any]]


class ServingClient:
    """Asks a TensorFlow Serving (or our model server) over gRPC.

    `address`: HOST:PORT or unix:PATH; `models`: name -> signature key; `timeout`: seconds for one inference; `pulse`:
    of a server on this machine, which tells `available` of one that hangs.
    A server that ends and comes back is asked again: an inference changes nothing, so it may run twice.
    """

    def __init__(
        self, address: str, models: Mapping[str, str], timeout: float = 60.0, pulse: Pulse | None = None
    ) -> None:
        self._address = address
        self._pulse = pulse
        self._models = models
        self._timeout = timeout
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", tensors.MAX_TENSOR_BYTES),
                ("grpc.max_send_message_length", tensors.MAX_TENSOR_BYTES),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 500),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._status = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._signatures: Signatures = {}

    def predict(
        self, model_input: Mapping[str, Any], model_name: str | None = None, model_version: str = "latest"
    ) -> dict[str, np.ndarray]:
        """model_input: input name -> array [N, ...]; gives output name -> array [N, ...].

        Raises InvalidInputError and NotFoundError when the server refuses, InferenceError when the model fails,
        ModelUnavailableError when no server answers within the time-out, OverloadedError when its queue is full.
        """
        name = pick_model(self._models, model_name)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = self._models[name]
        if (version := version_number(model_version)) is not None:
            request.model_spec.version.value = version
        for key, value in model_input.items():
            tensors.write_request(np.asarray(value), request.inputs[key])
        with asking(name) as trace:
            response = self._answer(request, trace)
        return {key: tensors.array_of(proto) for key, proto in response.outputs.items()}

    def wait_until_available(self, timeout: float) -> None:
        """Raises ModelUnavailableError when a model is not available after `timeout` seconds, NotFoundError when the
        server does not know it."""
        deadline = time.monotonic() + timeout
        for name in self._models:
            while not self._available(name, max(0.1, deadline - time.monotonic())):
                if time.monotonic() > deadline:
                    raise ModelUnavailableError(
                        f"Model {name} is not available at {self._address} after {timeout:g} s."
                    )
                time.sleep(0.1)

    def available(self, timeout: float = 1.0) -> bool:
        """Whether an answer can be expected now."""
        if self._pulse is not None and not self._pulse.answers(time.monotonic()):
            return False
        try:
            return all(self._available(name, timeout) for name in self._models)
        except NotFoundError:
            return False

    def input_signatures(self) -> Signatures:
        """Model name -> {"signature_key", "input_signatures": {input name -> {"shape", "type"}}}."""
        for name in self._models.keys() - self._signatures.keys():
            request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
            request.model_spec.name = name
            try:
                response = self._prediction.GetModelMetadata(request, timeout=5)
            except grpc.RpcError as error:
                raise _translated(error) from error
            signatures = get_model_metadata_pb2.SignatureDefMap()
            response.metadata["signature_def"].Unpack(signatures)
            key = self._models[name]
            inputs = {
                input_name: {
                    "shape": [dimension.size for dimension in info.tensor_shape.dim],
                    "type": tensors.type_name(info),
                }
                for input_name, info in signatures.signature_def[key].inputs.items()
            }
            self._signatures[name] = {"signature_key": key, "input_signatures": inputs}
        return self._signatures

    def close(self) -> None:
        self._channel.close()

    def _answer(
        self, request: predict_pb2.PredictRequest, trace: tuple[tuple[str, str], ...]
    ) -> predict_pb2.PredictResponse:
        last = deadline = time.monotonic() + self._timeout
        metadata = ((REQUEST_ID, secrets.token_hex(8)), *trace)
        lost: grpc.RpcError | None = None
        while True:
            left = deadline - time.monotonic()
            try:
                return self._prediction.Predict(request, timeout=left, metadata=metadata, wait_for_ready=bool(lost))
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE or _refused(error):
                    # While nobody was there to answer, the reason is the lost server and not the time it took.
                    late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
                    raise _translated(lost if lost and late else error) from error
                lost = lost or error
                deadline = min(last, time.monotonic() + PATIENCE)
                # A connection that breaks at once would otherwise be tried in a busy loop.
                time.sleep(0.05)

    def _available(self, name: str, timeout: float) -> bool:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        try:
            response = self._status.GetModelStatus(request, timeout=timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                raise NotFoundError(
                    f"The server at {self._address} serves no model {name!r}: {error.details()}"
                ) from error
            return False
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        return any(status.state == available for status in response.model_version_status)


class DirectClient:
    """The same interface on models loaded in this process, with no server between."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def predict(
        self, model_input: Mapping[str, Any], model_name: str | None = None, model_version: str = "latest"
    ) -> dict[str, np.ndarray]:
        """As ServingClient.predict."""
        name = pick_model(self._repository.names, model_name)
        model = self._repository.find(name, version_number(model_version))
        inputs = {key: np.asarray(value) for key, value in model_input.items()}
        model.signature().check(inputs)
        return model.engine.infer(inputs)


def pick_model(names: Iterable[str], wanted: str | None) -> str:
    """The model that a call means: the only one, or the one it names. Raises UsageError otherwise."""
    known = sorted(names)
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted not in known:
        raise UsageError(f"tensorflow_client.predict needs model_name, one of {', '.join(known)}, not {wanted!r}.")
    return wanted


def version_number(version: str) -> int | None:
    """None for the latest. Raises UsageError."""
    if version in ("latest", "highest"):
        return None
    if not version.isdecimal():
        raise UsageError(f"model_version {version!r} is not a number, 'latest' or 'highest'.")
    return int(version)


def _refused(error: grpc.RpcError) -> bool:
    return any(key == RETRY_AFTER for key, _ in error.trailing_metadata() or ())


def _translated(error: grpc.RpcError) -> Exception:
    if _refused(error):
        return OverloadedError(f"The model server is full: {error.details()}")
    kind, sentence = _SENTENCES.get(error.code(), (InferenceError, "The model failed on the request: {}"))
    return kind(sentence.format(error.details()))


_SENTENCES: dict[grpc.StatusCode, tuple[type[VisionserveError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (ModelUnavailableError, "The model server does not answer: {}"),
    grpc.StatusCode.CANCELLED: (ModelUnavailableError, "The model server ended the request: {}"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (ModelUnavailableError, "The model server did not answer in time: {}"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (OverloadedError, "The model server is full: {}"),
    grpc.StatusCode.INVALID_ARGUMENT: (InvalidInputError, "The model refused the request: {}"),
    grpc.StatusCode.FAILED_PRECONDITION: (InvalidInputError, "The model refused the request: {}"),
    grpc.StatusCode.NOT_FOUND: (NotFoundError, "{}"),
}
