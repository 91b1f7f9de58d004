import importlib.util
from pathlib import Path

from visionserve.errors import MissingError, ModelError, UsageError, install_command
from visionserve.inference.engine import Engine
from visionserve.inference.model_folder import OPENVINO_GRAPH, is_openvino_model
from visionserve.inference.signature_key import DEFAULT_SIGNATURE

EXTRAS = {"openvino": "openvino", "tensorflow": "export"}
ENGINES = ("auto", "tensorflow", "openvino", "null")


def choose_engine(
    wanted: str,
    signature_key: str = DEFAULT_SIGNATURE,
    accelerated: bool = False,
    folder: Path | None = None,
) -> str:
    """The engine that `auto` means here: the fastest installed one that can run the build.

    `accelerated`: the build is for a GPU or for Inferentia, which TensorFlow's own plugins run; `folder`: the build's
    own, None where there is none yet. Raises MissingError with the install command when the engine is not installed,
    ModelError when it cannot run the build.
    """
    if wanted not in ENGINES:
        raise UsageError(f"engine {wanted!r} is not one of {', '.join(ENGINES)}.")
    only_openvino = folder is not None and is_openvino_model(folder)
    if folder is not None:
        _check_format(wanted, folder)
    if wanted == "auto" and only_openvino:
        wanted = "openvino"
    if wanted == "auto":
        candidates = ["tensorflow"] if accelerated else ["openvino", "tensorflow"]
        if signature_key != DEFAULT_SIGNATURE:
            candidates = ["tensorflow"]
        installed = [name for name in candidates if importlib.util.find_spec(name)]
        if not installed:
            raise MissingError(f"No engine is installed: run {install_command(EXTRAS[candidates[0]])}.")
        return installed[0]
    if wanted == "openvino" and signature_key != DEFAULT_SIGNATURE:
        instead = f"set signature_key to {DEFAULT_SIGNATURE}" if only_openvino else "use --engine tensorflow"
        raise ModelError(f"OpenVINO reads only the signature {DEFAULT_SIGNATURE!r}, not {signature_key!r}: {instead}.")
    if wanted != "null" and not importlib.util.find_spec(wanted):
        raise MissingError(f"The engine {wanted} is not installed: run {install_command(EXTRAS[wanted])}.")
    return wanted


def load_engine(name: str, folder: Path, signature_key: str, threads: int) -> Engine:
    """folder: of one build; threads: the cores that the engine may use. Raises ModelError when it does not load."""
    _check_format(name, folder)
    if name == "openvino":
        from visionserve.inference.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(folder, threads)
    if name == "tensorflow":
        from visionserve.inference.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(folder, signature_key, threads)
    from visionserve.inference.null_engine import NullEngine

    return NullEngine()


def _check_format(engine: str, folder: Path) -> None:
    if engine == "tensorflow" and is_openvino_model(folder):
        raise ModelError(
            f"{folder} is an OpenVINO model ({OPENVINO_GRAPH}), which the engine tensorflow cannot run: "
            f"use --engine openvino."
        )
