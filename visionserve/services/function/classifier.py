import json
from pathlib import Path

import numpy as np

from visionserve.cores import available_cores
from visionserve.errors import InvalidInputError, ModelError
from visionserve.inference.engines import choose_engine
from visionserve.inference.image_bytes import IMAGE_BYTES
from visionserve.inference.model_folder import find_version
from visionserve.inference.model_settings import ModelSettings
from visionserve.inference.served_model import ServedModel

# The synonyms of each class's noun in WordNet 3.0, in the order of the classes: ImageNet's synset n02056570 is the noun
# at offset 02056570 of WordNet's data.noun, and ILSVRC-2012 numbers its 1000 synsets in the order of those offsets.
# WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved.
LONG_NAMES = Path(__file__).with_name("imagenet_names.json")


def find_model(path: Path, engine: str) -> tuple[ModelSettings, int, Path]:
    """What ServedModel needs, without loading anything. `path`: a model folder; `engine`: auto for the fastest.

    Raises ModelError where there is no model, MissingError where the engine is not installed.
    """
    version, folder = find_version(path)
    chosen = choose_engine(engine, folder=folder)
    return ModelSettings(name=path.name, path=path, engine=chosen, threads=available_cores()), version, folder


class Classifier:
    """One image -> the name of what it shows."""

    def __init__(self, path: Path, engine: str) -> None:
        """Loads the model, which takes seconds. Raises ModelError and MissingError."""
        # Every request decodes an image: OpenCV is loaded with the model, not by the first one.
        import cv2

        cv2.setNumThreads(1)
        self.names: list[str] = json.loads(LONG_NAMES.read_text())
        self._model = ServedModel(*find_model(path, engine))
        signature = self._model.signatures.get(IMAGE_BYTES)
        if signature is None or signature.outputs["probabilities"].shape[1] != len(self.names) + 1:
            self._model.close()
            raise ModelError(f"{path} does not give the probabilities of ImageNet's 1000 classes for an image.")

    async def classify(self, image: bytes, name: str) -> tuple[str, float]:
        """`image`: a JPEG, PNG, WebP, BMP or GIF file; `name`: how messages call it.

        Returns ImageNet's long name and its probability. Raises InvalidInputError for what is no image, and what the
        engine raises.
        """
        try:
            outputs = await self._model.infer({IMAGE_BYTES: np.array([image], object)}, IMAGE_BYTES)
        except InvalidInputError as error:
            raise InvalidInputError(str(error).replace(f"{IMAGE_BYTES}[0]", name, 1)) from error
        best = int(outputs["classes"][0])
        return self.names[best - 1], float(outputs["probabilities"][0, best])

    def close(self) -> None:
        self._model.close()
