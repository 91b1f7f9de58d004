import importlib.util
from pathlib import Path

from visionserve.errors import MissingError, ModelError, UsageError
from visionserve.inference.engine import DEFAULT_SIGNATURE, Engine

EXTRAS = {"openvino": "openvino", "tensorflow": "export"}
ENGINES = ("auto", "tensorflow", "openvino", "null")


def choose_engine(wanted: str, signature_key: str = DEFAULT_SIGNATURE, accelerated: bool = False) -> str:
    """The engine that `auto` means here: the fastest installed one that can run the build.

    `accelerated`: the build is for a GPU or for Inferentia, which TensorFlow's own plugins run.
    Raises MissingError with the install command when it is not installed.
    """
    if wanted not in ENGINES:
        raise UsageError(f"engine {wanted!r} is not one of {', '.join(ENGINES)}.")
    if wanted == "auto":
        candidates = ["tensorflow"] if accelerated else ["openvino", "tensorflow"]
        if signature_key != DEFAULT_SIGNATURE:
            candidates = ["tensorflow"]
        installed = [name for name in candidates if importlib.util.find_spec(name)]
        if not installed:
            raise MissingError(f"No engine is installed: run pip install 'visionserve[{EXTRAS[candidates[0]]}]'.")
        return installed[0]
    if wanted == "openvino" and signature_key != DEFAULT_SIGNATURE:
        raise ModelError(
            f"OpenVINO reads only the signature {DEFAULT_SIGNATURE!r}, not {signature_key!r}: use --engine tensorflow."
        )
    if wanted != "null" and not importlib.util.find_spec(wanted):
        raise MissingError(f"The engine {wanted} is not installed: run pip install 'visionserve[{EXTRAS[wanted]}]'.")
    return wanted


def load_engine(name: str, folder: Path, signature_key: str, threads: int) -> Engine:
    """folder: a SavedModel; threads: the cores that the engine may use. Raises ModelError when it does not load."""
    if name == "openvino":
        from visionserve.inference.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(folder, threads)
    if name == "tensorflow":
        from visionserve.inference.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(folder, signature_key, threads)
    from visionserve.inference.null_engine import NullEngine

    return NullEngine()
