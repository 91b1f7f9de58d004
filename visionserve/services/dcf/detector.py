from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionserve.cores import available_cores
from visionserve.errors import InvalidInputError, MissingError, ModelError
from visionserve.inference.detection_model import load_detection_model
from visionserve.inference.model_folder import find_version
from visionserve.models.builds.manifest import read_manifest
from visionserve.services.dcf.labels import COCO_CLASSES, load_labels
from visionserve.services.dcf.settings import DEFAULT_MODEL, Settings
from visionserve.vision.boxes import suppress, to_pixels
from visionserve.vision.errors import ImageError
from visionserve.vision.picture import Size, to_picture

# The longer side of a picture, in pixels, for a model that takes any size and does not say what it sees of it: few of
# the zoo's see more, and most of them far less.
LONGER_SIDE = 1024


@dataclass(frozen=True)
class FoundObject:
    """`label`: the class's name or number; `confidence`: 0..1; the box in pixels of the original picture turned
    upright by its EXIF orientation, as every viewer shows it, where xmax and ymax are beyond the last ones of it."""

    label: str
    confidence: float
    xmin: int
    ymin: int
    xmax: int
    ymax: int


class Detector:
    """Finds objects in pictures. `find` may be called from several threads: they decode side by side."""

    def __init__(self, settings: Settings) -> None:
        """Loads the model, which takes seconds. Raises ModelError, MissingError or UsageError."""
        self._settings = settings
        self._labels = load_labels(settings.labels or COCO_CLASSES) if settings.class_names else {}
        if settings.model == DEFAULT_MODEL and not settings.model.exists():
            raise MissingError(
                f"There is no detector in {DEFAULT_MODEL}: make it with visionserve export detector, or name another "
                f"model in DCF_MODEL."
            )
        self._model = load_detection_model(settings.model, settings.engine, available_cores())
        self._longer_side = _side_of_build(settings.model) or LONGER_SIDE

    def find(self, data: bytes) -> list[FoundObject]:
        """data: a JPEG, PNG, WebP, BMP or GIF file. The most confident object comes first.

        Raises InvalidInputError for what is none or is too large, InferenceError.
        """
        try:
            picture = to_picture(data, self._wanted, self._settings.max_pixels)
        except ImageError as error:
            raise InvalidInputError(f"The input {error}.") from error
        found = self._model.detect(picture.pixels)
        boxes = np.clip(found.boxes, 0, 1)
        # Also false for what is not a number.
        sound = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (found.scores >= self._settings.min_confidence)
        boxes, scores, classes = boxes[sound], found.scores[sound], found.classes[sound]
        objects = []
        for index in suppress(boxes, scores, classes, self._settings.max_overlap)[: self._settings.max_objects]:
            ymin, xmin, ymax, xmax = to_pixels(boxes[index].tolist(), picture.height, picture.width)
            number = int(classes[index])
            label = self._labels.get(number, str(number))
            objects.append(FoundObject(label, float(scores[index]), xmin, ymin, xmax, ymax))
        return objects

    def _wanted(self, height: int, width: int) -> Size:
        scale = min(1, self._longer_side / max(height, width))
        given = self._model.height, self._model.width
        sides = [
            max(1, round(scale * side)) if wanted == -1 else wanted
            for side, wanted in zip((height, width), given, strict=True)
        ]
        return sides[0], sides[1]


def _side_of_build(model: Path) -> int | None:
    """The side in pixels of what visionserve export detector's network sees; None for another's model."""
    try:
        side = read_manifest(find_version(model)[1]).settings.get("side")
    except ModelError:
        return None
    return side if isinstance(side, int) else None
