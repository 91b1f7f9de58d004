import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from ovmsclient.tfs_compat.protos.tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig
from pydantic import ValidationError

from visionserve.cores import available_cores
from visionserve.errors import UsageError
from visionserve.inference.engines import choose_engine
from visionserve.inference.model_folder import find_versions
from visionserve.inference.model_server import ServerSettings
from visionserve.inference.model_settings import ModelSettings
from visionserve.inference.version_policy import VersionPolicy

log = logging.getLogger("visionserve")


def server_settings(
    options: Sequence[str],
    config_file: Path | None,
    host: str,
    port: int,
    rest_port: int,
    poll: float,
    *,
    engine: str,
    threads: int | None,
    **of_each_model: Any,
) -> ServerSettings:
    """`options`: NAME=PATH, or else `config_file`; `rest_port`: 0 for no REST; `poll`: as in
    ServerSettings; `threads`: None for all cores.

    Raises UsageError, MissingError when an engine is not installed, and ModelError when it cannot run a model.
    """
    if bool(options) == bool(config_file):
        raise UsageError("Name the models: either --model NAME=PATH, once or more, or --model-config-file FILE.")
    if port == rest_port:
        raise UsageError(f"--port and --rest-port are both {port}: give each protocol its own.")
    models = read_model_config(config_file) if config_file else named_folders(options)
    for model in models:
        if engine != "null" and not model["path"].is_dir():
            raise UsageError(f"Model {model['name']}: there is no folder {model['path']}.")
        model["engine"] = choose_engine(engine, folder=_highest_served(model))
    host = f"[{host}]" if ":" in host else host
    return ServerSettings(
        address=f"{host}:{port}",
        rest_address=f"{host}:{rest_port}" if rest_port else None,
        poll=poll,
        models=[ModelSettings(threads=threads or available_cores(), **model, **of_each_model) for model in models],
    )


def named_folders(options: Iterable[str]) -> list[dict[str, Any]]:
    """NAME=PATH options as `name` and `path` of ModelSettings. Raises UsageError."""
    models = []
    for option in options:
        name, equals, path = option.partition("=")
        if not (name and equals and path):
            raise UsageError(f"--model {option}: say NAME=PATH, such as resnet50=models/resnet50.")
        models.append({"name": name, "path": Path(path)})
    return _without_repeats(models)


def read_model_config(file: Path) -> list[dict[str, Any]]:
    """TensorFlow Serving's ModelServerConfig in text form as fields of ModelSettings.

    See tensorflow_serving/config/model_server_config.proto; a relative base_path starts from the current folder.
    Raises UsageError with the file, and the line where the text does not parse.
    """
    config = ModelServerConfig()
    try:
        text_format.Parse(file.read_text(), config)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise UsageError(f"{file} is not a ModelServerConfig in text form: {str(error).rstrip('.')}.") from error
    if not config.model_config_list.config:
        raise UsageError(f"{file} names no model: it needs model_config_list {{ config {{ ... }} }}.")
    return _without_repeats([_model(file, model) for model in config.model_config_list.config])


def _model(file: Path, model: Any) -> dict[str, Any]:
    if not (model.name and model.base_path):
        raise UsageError(f"{file}: a model needs a name and a base_path, not only {model.name or model.base_path!r}.")
    if model.model_platform not in ("", "tensorflow"):
        raise UsageError(f"{file}: model {model.name} has the platform {model.model_platform!r}, not tensorflow.")
    if model.HasField("logging_config"):
        log.warning("%s: logging_config of model %s has no counterpart here", file, model.name)
    try:
        policy = _version_policy(model.model_version_policy)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise UsageError(f"{file}: the model_version_policy of model {model.name} is wrong: {reason}.") from error
    return {
        "name": model.name,
        "path": Path(model.base_path),
        "version_policy": policy,
        "version_labels": dict(model.version_labels),
    }


def _version_policy(policy: Any) -> VersionPolicy:
    kind = policy.WhichOneof("policy_choice")
    if kind == "specific":
        return VersionPolicy(kind=kind, versions=tuple(policy.specific.versions))
    return VersionPolicy(kind=kind or "latest", num_versions=policy.latest.num_versions or 1)


def _highest_served(model: dict[str, Any]) -> Path | None:
    """The folder of the highest version that a model's policy wants; None where there is none, or no folder at all."""
    if not model["path"].is_dir():
        return None
    policy = model.get("version_policy", VersionPolicy())
    return next(iter(policy.choose(find_versions(model["path"])).values()), None)


def _without_repeats(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = [model["name"] for model in models]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"Two models have the name {repeated[0]}: give each its own.")
    return models
