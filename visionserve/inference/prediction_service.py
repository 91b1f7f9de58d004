"""TensorFlow Serving's gRPC services (tensorflow_serving/apis/prediction_service.proto, model_service.proto)."""

import functools
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import grpc
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis import (
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
from visionserve.inference.client import REQUEST_ID, RETRY_AFTER
from visionserve.inference.descriptions import metadata_response, status_response
from visionserve.inference.engine import TensorSpec
from visionserve.inference.repository import Repository
from visionserve.inference.tracing import traced_predict

CODES = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    OverloadedError: grpc.StatusCode.UNAVAILABLE,
    ModelUnavailableError: grpc.StatusCode.UNAVAILABLE,
}


def _errors_as_codes(method: Callable[[Any, Any, Any], Awaitable[Any]]) -> Callable[[Any, Any, Any], Awaitable[Any]]:
    @functools.wraps(method)
    async def answer(self: Any, request: Any, context: Any) -> Any:
        try:
            return await method(self, request, context)
        except VisionserveError as error:
            trailing = ((RETRY_AFTER, "1"),) if isinstance(error, OverloadedError) else ()
            await context.abort(CODES.get(type(error), grpc.StatusCode.INTERNAL), str(error), trailing)

    return answer


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """A call whose deadline passes or whose client goes away is canceled by gRPC, and its inference with it."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    @_errors_as_codes
    @traced_predict
    async def Predict(self, request, context):  # type: ignore[no-untyped-def]
        spec = request.model_spec
        model = self._repository.find(*_which(spec))
        signature_key = spec.signature_name or model.default_signature
        try:
            signature = model.signature(signature_key)
        except InvalidInputError as error:
            # The code of RunPredict in tensorflow_serving/servables/tensorflow/predict_util.cc.
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        wanted = _wanted(request.output_filter, signature.outputs)
        inputs = {name: _input(name, proto) for name, proto in request.inputs.items()}
        outputs = await model.infer(inputs, signature_key, _request_id(context))
        response = predict_pb2.PredictResponse()
        response.model_spec.name = model.name
        response.model_spec.version.value = model.version
        response.model_spec.signature_name = signature_key
        for name in wanted or outputs:
            tensors.write_response(outputs[name], response.outputs[name])
        return response

    @_errors_as_codes
    async def GetModelMetadata(self, request, context):  # type: ignore[no-untyped-def]
        if not request.metadata_field:
            raise InvalidInputError("The request names no metadata_field: ask for signature_def.")
        for field in request.metadata_field:
            if field != "signature_def":
                raise InvalidInputError(f"There is no metadata_field {field!r}: ask for signature_def.")
        return metadata_response(self._repository.find(*_which(request.model_spec)))


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    @_errors_as_codes
    async def GetModelStatus(self, request, context):  # type: ignore[no-untyped-def]
        return status_response(self._repository.statuses(*_which(request.model_spec)))


def _which(spec) -> tuple[str, int | None, str]:  # type: ignore[no-untyped-def]
    if not spec.name:
        raise InvalidInputError("The request's model_spec has no name: say which model.")
    # OpenVINO Model Server's clients say 0 for the latest version.
    return spec.name, spec.version.value or None, spec.version_label


def _request_id(context) -> str:  # type: ignore[no-untyped-def]
    return next((value for key, value in context.invocation_metadata() or () if key == REQUEST_ID), "")


def _wanted(output_filter: Collection[str], outputs: Mapping[str, TensorSpec]) -> Collection[str]:
    for name in output_filter:
        if name not in outputs:
            raise InvalidInputError(f"The model gives the outputs {sorted(outputs)}, not {name!r} of output_filter.")
    if len(set(output_filter)) < len(output_filter):
        raise InvalidInputError(f"output_filter names an output twice: {list(output_filter)}.")
    return output_filter


def _input(name: str, proto):  # type: ignore[no-untyped-def]
    try:
        return tensors.array_of(proto)
    except ValueError as error:
        raise InvalidInputError(f"Input {name} {error}.") from error
