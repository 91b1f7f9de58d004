"""TensorFlow Serving's gRPC services (tensorflow_serving/apis/prediction_service.proto, model_service.proto)."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from ovmsclient.tfs_compat.protos.tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from visionserve.errors import (
    InvalidInputError,
    ModelUnavailableError,
    NotFoundError,
    OverloadedError,
    VisionserveError,
)
from visionserve.inference import tensors
from visionserve.inference.engine import TensorSpec
from visionserve.inference.repository import Repository
from visionserve.inference.served_model import ServedModel

STATES = get_model_status_pb2.ModelVersionStatus.State
CODES = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    OverloadedError: grpc.StatusCode.UNAVAILABLE,
    ModelUnavailableError: grpc.StatusCode.UNAVAILABLE,
}


def _errors_as_codes(method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any, Any], Awaitable[Any]]:
    @functools.wraps(method)
    async def answer(self: Any, request: Any, context: Any) -> Any:
        try:
            return await method(self, request)
        except VisionserveError as error:
            await context.abort(CODES.get(type(error), grpc.StatusCode.INTERNAL), str(error))

    return answer


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    @_errors_as_codes
    async def Predict(self, request):  # type: ignore[no-untyped-def]
        model = self._repository.find(*_which(request.model_spec))
        inputs = {name: _input(name, proto) for name, proto in request.inputs.items()}
        signature_key = request.model_spec.signature_name or model.default_signature
        outputs = await model.infer(inputs, signature_key)
        response = predict_pb2.PredictResponse()
        _name(response.model_spec, model)
        response.model_spec.signature_name = signature_key
        wanted = set(request.output_filter)
        for name, array in outputs.items():
            if not wanted or name in wanted:
                response.outputs[name].CopyFrom(tensors.response_tensor(array))
        return response

    @_errors_as_codes
    async def GetModelMetadata(self, request):  # type: ignore[no-untyped-def]
        model = self._repository.find(*_which(request.model_spec))
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for key, signature in model.signatures.items():
            definition = SignatureDef(method_name="tensorflow/serving/predict")
            for name, spec in signature.inputs.items():
                definition.inputs[name].CopyFrom(_tensor_info(name, spec))
            for name, spec in signature.outputs.items():
                definition.outputs[name].CopyFrom(_tensor_info(name, spec))
            signatures.signature_def[key].CopyFrom(definition)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _name(response.model_spec, model)
        response.metadata["signature_def"].Pack(signatures)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    @_errors_as_codes
    async def GetModelStatus(self, request):  # type: ignore[no-untyped-def]
        statuses = self._repository.statuses(*_which(request.model_spec))
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in statuses:
            row = response.model_version_status.add(version=status.version, state=STATES.Value(status.state))
            row.status.error_message = status.error
        return response


def _which(spec) -> tuple[str, int | None, str]:  # type: ignore[no-untyped-def]
    # OpenVINO Model Server's clients say 0 for the latest version.
    version = spec.version.value if spec.HasField("version") else 0
    return spec.name, version or None, spec.version_label


def _input(name: str, proto):  # type: ignore[no-untyped-def]
    try:
        return tensors.array_of(proto)
    except ValueError as error:
        raise InvalidInputError(f"Input {name} {error}.") from error


def _name(spec, model: ServedModel) -> None:  # type: ignore[no-untyped-def]
    spec.name = model.name
    spec.version.value = model.version


def _tensor_info(name: str, spec: TensorSpec) -> TensorInfo:
    info = TensorInfo(name=f"{name}:0", dtype=tensors.data_type(spec.dtype))
    for size in spec.shape:
        info.tensor_shape.dim.add(size=size)
    return info
