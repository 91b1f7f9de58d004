from typing import Any

import numpy as np
from starlette.exceptions import HTTPException

from visionserve.errors import InferenceError, InvalidInputError
from visionserve.services.rest.routes import Route
from visionserve.services.rest.serving import Serving
from visionserve.services.rest.upload import FIELD
from visionserve.vision.errors import ImageError
from visionserve.vision.header import Header, read_header

# What the decoders in a SavedModel's own graph are sure to take.
EVERYWHERE = ("JPEG", "PNG")
BACKGROUND = "background"
TOP = 5


class Classifier:
    """What a route answers. To be called in a thread: it waits for the model."""

    def __init__(self, route: Route, serving: Serving, max_pixels: int) -> None:
        self.route = route
        self._serving = serving
        self._max_pixels = max_pixels

    def classify(self, image: bytes, detail: bool) -> dict[str, Any]:
        """An image file -> a Classification, or with `detail` a DetailedClassification.

        Raises HTTPException 415 for what is no image of a known format, 400 for a broken one, and what Serving raises.
        """
        header = self._checked(image)
        try:
            probabilities = self._serving.probabilities(self.route.model, image)
        except (InvalidInputError, InferenceError) as error:
            if header.format not in EVERYWHERE:
                sentence = f"{FIELD} is a {header.format} file, which the model does not read: send JPEG or PNG."
                raise HTTPException(415, sentence) from error
            raise
        likeliest = np.argsort(-probabilities, kind="stable")[: TOP if detail else 1].tolist()
        if not detail:
            return {"classes": likeliest[0]}
        labels = self.route.labels_of(len(probabilities) - 1)
        names = [BACKGROUND, *labels] if labels else None
        top = [
            {"class": index, "label": names[index] if names else None, "probability": probabilities[index]}
            for index in likeliest
        ]
        return {"classes": likeliest[0], "label": top[0]["label"], "probability": top[0]["probability"], "top5": top}

    def available(self) -> bool:
        return self._serving.available(self.route.model)

    def _checked(self, image: bytes) -> Header:
        try:
            header = read_header(image)
        except ImageError as error:
            raise HTTPException(415, f"{FIELD} {error}.") from error
        if header.width * header.height > self._max_pixels:
            size = f"{header.width}x{header.height}"
            sentence = f"{FIELD} has {size} pixels, more than max_pixels={self._max_pixels}: send a smaller image."
            raise HTTPException(400, sentence)
        if not header.complete:
            raise HTTPException(400, f"{FIELD} is not a complete image: its {header.format} data are cut off.")
        return header
