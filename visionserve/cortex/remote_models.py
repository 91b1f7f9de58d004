import re
from pathlib import PurePosixPath

from pydantic import BaseModel

from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import UsageError
from visionserve.inference.signature_key import DEFAULT_SIGNATURE


class RemoteModels(BaseModel):
    """The models of an API in a TensorFlow Serving elsewhere. `address`: HOST:PORT; `signatures`: name -> key."""

    address: str
    signatures: dict[str, str]


def remote_models(spec: ApiSpec, server: str) -> RemoteModels:
    """The models of a spec by the names they have in the TensorFlow Serving at `server`, HOST:PORT[/MODEL].

    The one model of a spec with model_path has the name MODEL, or else that of the folder. Raises UsageError.
    """
    parts = re.fullmatch(r"(?P<address>[^/\s]+:\d+)(?:/(?P<model>[^/\s]+))?", server)
    if parts is None:
        raise UsageError(f"--tensorflow-serving {server!r} is not HOST:PORT or HOST:PORT/MODEL.")
    predictor = spec.predictor
    if predictor.type != "tensorflow":
        raise UsageError(f"--tensorflow-serving is for a tensorflow predictor; {spec.name} has a {predictor.type} one.")
    if predictor.model_path is not None:
        name = parts["model"] or PurePosixPath(predictor.model_path.rstrip("/")).name
        signatures = {name: predictor.signature_key or DEFAULT_SIGNATURE}
    else:
        assert predictor.models is not None
        if parts["model"]:
            raise UsageError(f"{spec.name} names several models in predictor.models: leave /{parts['model']} out.")
        if predictor.models.dir is not None:
            raise UsageError(
                "predictor.models.dir does not say what models another server has: list them in predictor.models.paths."
            )
        default = predictor.models.signature_key or DEFAULT_SIGNATURE
        signatures = {model.name: model.signature_key or default for model in predictor.models.paths}
    return RemoteModels(address=parts["address"], signatures=signatures)
