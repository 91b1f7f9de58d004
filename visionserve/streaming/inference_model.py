from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visionserve.cores import available_cores
from visionserve.errors import ModelError, UsageError
from visionserve.inference.engine import Engine
from visionserve.inference.model_folder import OPENVINO_GRAPH, find_version, is_openvino_model, is_saved_model
from visionserve.models.builds.openvino.own_thread import in_own_thread
from visionserve.streaming.classifier_engine import INPUT, OUTPUT, ClassifierEngine
from visionserve.streaming.classifier_graph import read_classifier
from visionserve.streaming.model_options import DEFAULT_INPUT_SHAPE, ModelOptions
from visionserve.streaming.model_types import DEFAULT_MODEL_TYPE


class InferenceModel:
    """An image classifier in a task of a stream: loaded in its open(), released in its close().

    The verbs are those of Analytics Zoo's InferenceModel
    (https://analytics-zoo.github.io/master/APIGuide/PipelineAPI/inference/). Loading again replaces the model when the
    new one is there; where it does not load, the old one stays.
    """

    def __init__(self, concurrent_num: int = 1, threads: int | None = None) -> None:
        """`concurrent_num`: batches that run at once, each on its share of `threads` cores; None for all cores that
        this process may use. Raises UsageError for numbers below 1.
        """
        for name, value in (("concurrent_num", concurrent_num), ("threads", threads)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}: it must be at least 1.")
        self._concurrent_num = concurrent_num
        self._threads = threads or available_cores()
        self._engine: ClassifierEngine | None = None

    def load_tf(
        self,
        checkpoint_path: str | Path,
        model_type: str = DEFAULT_MODEL_TYPE,
        input_shape: Sequence[int] = DEFAULT_INPUT_SHAPE,
        if_reverse_input_channels: bool | None = None,
        mean_values: Sequence[float] | None = None,
        scale: float | None = None,
    ) -> None:
        """Loads a TensorFlow SavedModel through OpenVINO's own frontend, which needs no TensorFlow.

        `checkpoint_path`: its folder, or one with numbered versions, of which the highest is taken; the others: see
        ModelOptions. Takes seconds. Raises ModelError where there is no classifier or it does not load, UsageError
        where the options do not fit it, MissingError where OpenVINO is not installed.
        """
        options = ModelOptions(model_type, tuple(input_shape), if_reverse_input_channels, _tuple(mean_values), scale)
        self._load(saved_model(Path(checkpoint_path)), options)

    def load_openvino(
        self,
        model_path: str | Path,
        model_type: str = DEFAULT_MODEL_TYPE,
        input_shape: Sequence[int] = DEFAULT_INPUT_SHAPE,
        if_reverse_input_channels: bool | None = None,
        mean_values: Sequence[float] | None = None,
        scale: float | None = None,
    ) -> None:
        """As load_tf, a model in OpenVINO's own format.

        `model_path`: a folder with model.xml and model.bin, or with numbered versions of it, or an .xml file with its
        .bin beside it.
        """
        options = ModelOptions(model_type, tuple(input_shape), if_reverse_input_channels, _tuple(mean_values), scale)
        self._load(openvino_graph(Path(model_path)), options)

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """pixels: uint8 RGB [N, H, W, 3] of the size in input_shape -> float32 probabilities [N, K].

        May be called from any threads; those beyond concurrent_num wait. Raises InvalidInputError for another dtype or
        shape, ModelError where no model is loaded, InferenceError.
        """
        engine = self.engine
        engine.signature.check({INPUT: pixels})
        return engine.infer({INPUT: pixels})[OUTPUT]

    def release(self) -> None:
        """Frees the model once the batches that run have ended; those that wait get an InferenceError."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    @property
    def engine(self) -> Engine:
        """The loaded model as inference.batcher.Batcher takes one: `input` -> `output`, as predict has them.

        Close the batcher before release. Raises ModelError where no model is loaded.
        """
        if self._engine is None:
            raise ModelError("No model is loaded: call load_tf or load_openvino before predict.")
        return self._engine

    def _load(self, path: Path, options: ModelOptions) -> None:
        def load() -> ClassifierEngine:
            engine = ClassifierEngine(read_classifier(path, options), self._concurrent_num, self._threads)
            _try_out(engine, path)
            return engine

        # Compiled there because of what OpenVINO leaves behind in the thread.
        engine = in_own_thread(load)
        self.release()
        self._engine = engine


def _tuple(numbers: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if numbers is None else tuple(numbers)


def saved_model(path: Path) -> Path:
    """The SavedModel's own folder at `path`. Raises ModelError where there is none."""
    version = _version(path)
    if not is_saved_model(version):
        raise ModelError(f"{version} is a model in OpenVINO's format, not a SavedModel: load_openvino reads it.")
    return version


def openvino_graph(path: Path) -> Path:
    """The .xml file of the model in OpenVINO's format at `path`. Raises ModelError where there is none."""
    if path.suffix == ".xml":
        if not path.is_file() or not path.with_suffix(".bin").is_file():
            raise ModelError(
                f"{path} is no model in OpenVINO's format: it needs this file and {path.stem}.bin beside it."
            )
        return path
    version = _version(path)
    if not is_openvino_model(version):
        raise ModelError(f"{version} is a SavedModel, not a model in OpenVINO's format: load_tf reads it.")
    return version / OPENVINO_GRAPH


def _version(path: Path) -> Path:
    if path.is_file():
        raise ModelError(f"{path} is a file, where the folder of a SavedModel or of an OpenVINO model is expected.")
    if not path.is_dir():
        raise ModelError(f"There is no model folder {path}: make one with visionserve export cpu, or name another.")
    return find_version(path)[1]


def _try_out(engine: ClassifierEngine, path: Path) -> None:
    """One inference, which finds what loading does not, and spares the first picture the set-up."""
    _, height, width, channels = engine.signature.inputs[INPUT].shape
    answer = engine.infer({INPUT: np.zeros([1, height, width, channels], np.uint8)})[OUTPUT]
    if not (answer.min() >= 0 and abs(answer.sum() - 1) < 1e-2):
        raise ModelError(
            f"{path} gives numbers that are no probabilities (for a black image a sum of {answer.sum():.4g}): export "
            f"it with its softmax."
        )
