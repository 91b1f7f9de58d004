"""The closed list of what can go wrong. Each error is one sentence: what was wrong, where, what to do.

`exit_code` is for commands (1 it ran and failed, 2 wrong usage, 3 this machine lacks something), `status` for HTTP.
"""

from pathlib import Path

# What makes the build that each ending of a model folder's name stands for; without one it is the CPU's.
_EXPORTS = {
    "_gpu": "tensorrt",
    "_neuron": "neuron",
    "_openvino": "openvino",
    "_openvino_int8": "openvino --int8 --calibration PICTURES",
    "detector": "detector",
}


def export_command(folder: Path) -> str:
    """What a sentence tells to run where a model folder is missing."""
    build = next((build for ending, build in _EXPORTS.items() if folder.name.endswith(ending)), "cpu")
    return f"visionserve export {build} --output {folder / '1'}"


def install_command(extra: str) -> str:
    """What a sentence tells to run where the packages of an extra are missing.

    Not pip by this project's name, which is that of another project on the package index.
    """
    return f"scripts/setup {extra} in visionserve's folder"


class VisionserveError(Exception):
    exit_code = 1
    status = 500


class UsageError(VisionserveError):
    """A wrong option, argument or spec."""

    exit_code = 2
    status = 400


class MissingError(VisionserveError):
    """This machine lacks a device, a library or a compiler that was asked for."""

    exit_code = 3


class WeightsError(VisionserveError):
    """No usable weights: not found, cut off, altered, or of another network."""


class ModelError(VisionserveError):
    """A model folder that is missing, holds no model, or is refused by the engine; a build that answers wrongly."""


class InvalidInputError(VisionserveError):
    """Inputs that the model does not take: a wrong name, dtype, shape or signature."""

    status = 400


class NotFoundError(VisionserveError):
    """A model or a version of it that is not served here."""

    status = 404


class InferenceError(VisionserveError):
    """The engine failed on a request that it should have answered."""


class OverloadedError(VisionserveError):
    """More requests than can be answered soon, or than max_replica_concurrency."""

    status = 503


class ModelUnavailableError(VisionserveError):
    """The model server does not answer now; a retry may succeed."""

    status = 503


class DeploymentError(VisionserveError):
    """An API that could not be started, found or stopped."""
