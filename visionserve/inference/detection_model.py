import importlib.util
import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionserve.errors import InferenceError, ModelError
from visionserve.inference.engine import Engine, TensorSpec
from visionserve.inference.engines import choose_engine, load_engine
from visionserve.inference.model_folder import find_version, is_openvino_model
from visionserve.inference.signature_key import DEFAULT_SIGNATURE

log = logging.getLogger("visionserve")

# Of the zoo's fourth, num_detections, see detect.
OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes")
# Of the picture that tries out a model whose input is open.
TRIAL_SIDE = 512


@dataclass(frozen=True)
class Detections:
    """`boxes`: float [N, 4] = ymin, xmin, ymax, xmax in 0..1 of the picture; `scores`: float [N], 0..1; `classes`:
    int [N], the model's numbers."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


class DetectionModel:
    """A detector with the inputs and outputs of TensorFlow's detection model zoo, one picture at a time.

    https://github.com/tensorflow/models, research/object_detection/g3doc/exporting_models.md. `height`, `width`: what
    the input takes, -1 for any.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        """`folder`: where the engine has the model from. ModelError where it is no such detector."""
        inputs, outputs = engine.signature.inputs, engine.signature.outputs
        missing = [name for name in OUTPUTS if name not in outputs]
        if missing:
            raise ModelError(
                f"{folder} is no detector as in TensorFlow's model zoo: it gives {', '.join(sorted(outputs))}, "
                f"but not {', '.join(missing)}."
            )
        [(self._input, spec), *others] = inputs.items()
        if others or not _takes_a_picture(spec):
            found = " and ".join(f"{name}, {_type(spec)} {list(spec.shape)}" for name, spec in inputs.items())
            raise ModelError(f"{folder} takes {found}, where a detector takes one uint8 [1, height, width, 3].")
        self.height, self.width = spec.shape[1:3]
        self._engine = engine
        self._slots = threading.BoundedSemaphore(engine.slots)

    def detect(self, pixels: np.ndarray) -> Detections:
        """pixels: uint8 RGB [H, W, 3]. May be called from several threads. Raises InferenceError."""
        with self._slots:
            outputs = self._engine.infer({self._input: pixels[np.newaxis]})
        boxes = outputs["detection_boxes"].reshape(-1, 4)
        # A float in the zoo's models. OpenVINO leaves out an output that is constant, as when all rows always count.
        count = int(outputs["num_detections"].ravel()[0]) if "num_detections" in outputs else len(boxes)
        return Detections(
            boxes[:count],
            outputs["detection_scores"].ravel()[:count],
            np.rint(outputs["detection_classes"].ravel()[:count]).astype(int),
        )


def load_detection_model(folder: Path, engine: str, threads: int) -> DetectionModel:
    """`folder`: as find_version takes it; `engine`: as choose_engine takes it, where `auto` is OpenVINO if it can run
    the model, else TensorFlow; `threads`: the cores it may use. Takes seconds.

    Raises ModelError for what is no detector or does not load, MissingError where there is no engine.
    """
    version = find_version(folder)[1]
    name = choose_engine(engine, folder=version)
    try:
        return _tried_out(name, version, threads)
    except (ModelError, InferenceError) as error:
        has_another = engine == "auto" and name == "openvino" and not is_openvino_model(version)
        if not has_another or not importlib.util.find_spec("tensorflow"):
            raise
        log.warning("%s TensorFlow is tried instead.", error)
    return _tried_out("tensorflow", version, threads)


def _tried_out(name: str, folder: Path, threads: int) -> DetectionModel:
    """After one inference, which finds what loading does not, and spares the first picture the set-up."""
    model = DetectionModel(load_engine(name, folder, DEFAULT_SIGNATURE, threads), folder)
    height, width = (TRIAL_SIDE if side == -1 else side for side in (model.height, model.width))
    model.detect(np.zeros([height, width, 3], np.uint8))
    return model


def _takes_a_picture(spec: TensorSpec) -> bool:
    return spec.dtype == np.uint8 and len(spec.shape) == 4 and spec.shape[0] in (-1, 1) and spec.shape[3] in (-1, 3)


def _type(spec: TensorSpec) -> str:
    return "string" if spec.dtype.kind in "OSU" else str(spec.dtype)
