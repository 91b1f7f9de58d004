"""TensorFlow Serving's gRPC services (tensorflow_serving/apis/prediction_service.proto, model_service.proto)."""

from collections.abc import Mapping

import grpc
from ovmsclient.tfs_compat.protos.tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from visionserve.errors import InferenceError
from visionserve.inference import tensors
from visionserve.inference.engine import TensorSpec
from visionserve.inference.served_model import ServedModel

AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE


class Models:
    """The loaded models by name. Lookups abort a call with NOT_FOUND, as TensorFlow Serving does."""

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        self._models = models

    async def find(self, spec, context) -> ServedModel:  # type: ignore[no-untyped-def]
        model = self._models.get(spec.name)
        if model is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"Model {spec.name!r} is not served here: ask for one of {', '.join(sorted(self._models))}.",
            )
            raise AssertionError("abort raises")
        # OpenVINO Model Server's clients say 0 for the latest version.
        if spec.HasField("version") and spec.version.value not in (0, model.version):
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"Version {spec.version.value} of model {spec.name} is not served here: ask for {model.version}.",
            )
        return model


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models: Models) -> None:
        self._models = models

    async def Predict(self, request, context):  # type: ignore[no-untyped-def]
        model = await self._models.find(request.model_spec, context)
        signature = request.model_spec.signature_name
        if signature and signature != model.engine.signature_key:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"Model {model.name} serves the signature {model.engine.signature_key!r}, not {signature!r}.",
            )
        inputs = {}
        for name, proto in request.inputs.items():
            try:
                inputs[name] = tensors.array_of(proto)
            except ValueError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Input {name} {error}.")
        try:
            outputs = await model.infer(inputs)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except InferenceError as error:
            await context.abort(grpc.StatusCode.INTERNAL, str(error))
        response = predict_pb2.PredictResponse()
        response.model_spec.name = model.name
        response.model_spec.version.value = model.version
        response.model_spec.signature_name = model.engine.signature_key
        wanted = set(request.output_filter)
        for name, array in outputs.items():
            if not wanted or name in wanted:
                response.outputs[name].CopyFrom(tensors.response_tensor(array))
        return response

    async def GetModelMetadata(self, request, context):  # type: ignore[no-untyped-def]
        model = await self._models.find(request.model_spec, context)
        signature = SignatureDef(method_name="tensorflow/serving/predict")
        for name, spec in model.engine.inputs.items():
            signature.inputs[name].CopyFrom(_tensor_info(name, spec))
        for name, spec in model.engine.outputs.items():
            signature.outputs[name].CopyFrom(_tensor_info(name, spec))
        signatures = get_model_metadata_pb2.SignatureDefMap()
        signatures.signature_def[model.engine.signature_key].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = model.name
        response.model_spec.version.value = model.version
        response.metadata["signature_def"].Pack(signatures)
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models: Models) -> None:
        self._models = models

    async def GetModelStatus(self, request, context):  # type: ignore[no-untyped-def]
        model = await self._models.find(request.model_spec, context)
        response = get_model_status_pb2.GetModelStatusResponse()
        response.model_version_status.add(version=model.version, state=AVAILABLE)
        return response


def _tensor_info(name: str, spec: TensorSpec) -> TensorInfo:
    info = TensorInfo(name=f"{name}:0", dtype=tensors.data_type(spec.dtype))
    for size in spec.shape:
        info.tensor_shape.dim.add(size=size)
    return info
