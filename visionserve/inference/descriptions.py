"""What TensorFlow Serving's protocols say of a model, the same for gRPC and REST."""

from collections.abc import Iterable

from ovmsclient.tfs_compat.protos.tensorflow.core.protobuf.error_codes_pb2 import Code
from ovmsclient.tfs_compat.protos.tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataResponse,
    SignatureDefMap,
)
from ovmsclient.tfs_compat.protos.tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusResponse,
    ModelVersionStatus,
)

from visionserve.inference import tensors
from visionserve.inference.engine import TensorSpec
from visionserve.inference.repository import VersionStatus
from visionserve.inference.served_model import ServedModel


def status_response(statuses: Iterable[VersionStatus]) -> GetModelStatusResponse:
    """tensorflow_serving/apis/get_model_status.proto"""
    response = GetModelStatusResponse()
    for status in statuses:
        row = response.model_version_status.add(
            version=status.version, state=ModelVersionStatus.State.Value(status.state)
        )
        row.status.error_code = Code.UNKNOWN if status.error else Code.OK
        row.status.error_message = status.error
    return response


def metadata_response(model: ServedModel) -> GetModelMetadataResponse:
    """tensorflow_serving/apis/get_model_metadata.proto, with its only field, `signature_def`."""
    response = GetModelMetadataResponse()
    response.model_spec.name = model.name
    response.model_spec.version.value = model.version
    response.metadata["signature_def"].Pack(signature_definitions(model))
    return response


def signature_definitions(model: ServedModel) -> SignatureDefMap:
    """Every signature that the model is served with, by its key."""
    definitions = SignatureDefMap()
    for key, signature in model.signatures.items():
        definition = SignatureDef(method_name="tensorflow/serving/predict")
        for name, spec in signature.inputs.items():
            definition.inputs[name].CopyFrom(_tensor_info(name, spec))
        for name, spec in signature.outputs.items():
            definition.outputs[name].CopyFrom(_tensor_info(name, spec))
        definitions.signature_def[key].CopyFrom(definition)
    return definitions


def _tensor_info(name: str, spec: TensorSpec) -> TensorInfo:
    info = TensorInfo(name=f"{name}:0", dtype=tensors.data_type(spec.dtype))
    for size in spec.shape:
        info.tensor_shape.dim.add(size=size)
    return info
