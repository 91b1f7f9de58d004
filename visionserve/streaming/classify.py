import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson

from visionserve.cores import available_cores
from visionserve.inference.batcher import Batcher
from visionserve.inference.model_folder import is_openvino_model
from visionserve.streaming.classifier_engine import INPUT, OUTPUT
from visionserve.streaming.inference_model import InferenceModel
from visionserve.streaming.labels import load_labels, top5
from visionserve.streaming.model_options import ModelOptions
from visionserve.vision.errors import ImageError
from visionserve.vision.pixels import to_input

# Of a probability: those that float32 has.
DIGITS = 7
# Rows of a batch at most. The engine keeps the memory of the largest that it ever ran, and learning the size, as the
# servers do, would try 16 in the middle of a job: a fifth more for a worker.
BATCH = 8


@dataclass(frozen=True)
class Answer:
    """A row of the output as JSON; `broken`: it tells why the image has no labels."""

    row: str
    broken: bool


class Classifier:
    """Classifies the images of one task: decodes them side by side and joins those that wait into batches."""

    def __init__(self, image_folder: Path, model: Path, options: ModelOptions, threads: int) -> None:
        """Loads the model, which takes seconds. `threads`: the cores that this task may use."""
        # The task's share of the cores goes to the engine, not to each resize.
        cv2.setNumThreads(1)
        self._folder = image_folder
        self._size = options.image_size
        self._model = InferenceModel(threads=threads)
        load = self._model.load_openvino if is_openvino_model(model) else self._model.load_tf
        load(model, **vars(options))
        engine = self._model.engine
        self._labels = load_labels(engine.signature.outputs[OUTPUT].shape[-1])
        self._batcher = Batcher(engine, BATCH)
        self._decoders = ThreadPoolExecutor(threads, "decoder")

    async def classify(self, name: str) -> Answer:
        """`name`: of an image, relative to the folder. One that cannot be read gives a broken answer; raises
        InferenceError where the engine fails."""
        try:
            pixels = await asyncio.get_running_loop().run_in_executor(self._decoders, self._pixels, name)
        except (ImageError, OSError) as error:
            return _answer({"image": name, "error": _sentence(name, error)}, broken=True)
        outputs = await self._batcher.infer({INPUT: pixels})
        [labels] = top5(outputs[OUTPUT], self._labels)
        rounded = [{**each, "probability": round(each["probability"], DIGITS)} for each in labels]
        return _answer({"image": name, "top5": rounded}, broken=False)

    def close(self) -> None:
        self._decoders.shutdown(cancel_futures=True)
        self._batcher.close()
        self._model.release()

    def _pixels(self, name: str) -> np.ndarray:
        return to_input((self._folder / name).read_bytes(), self._size)[np.newaxis]


def task_threads(threads: int | None, tasks: int) -> int:
    """The cores for one of `tasks` that share this machine, unless they were given."""
    return threads or max(1, available_cores() // tasks)


def _answer(row: dict[str, Any], broken: bool) -> Answer:
    return Answer(orjson.dumps(row).decode(), broken)


def _sentence(name: str, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{name} cannot be read: {error.strerror}."
    return f"{name} {error}."
