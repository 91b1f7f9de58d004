from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from visionserve.errors import ModelError
from visionserve.models.builds.detector.coco import coco_classes
from visionserve.models.builds.detector.network import SIDE, Network
from visionserve.models.builds.detector.saved_model import SIGNATURE
from visionserve.models.tensorflow import import_tensorflow
from visionserve.vision.boxes import suppress

# An object is taken to be there when the network is at least this sure.
SURE = 0.3
MAX_OVERLAP = 0.5
# What the last bits of two ways to scale the picture may come to.
SCORE_DIFFERENCE, BOX_DIFFERENCE = 5e-3, 2e-3


@dataclass(frozen=True)
class FoundObject:
    """`box`: ymin, xmin, ymax, xmax in 0..1 of the picture, which it may reach over a little."""

    label: str
    score: float
    box: np.ndarray


@dataclass(frozen=True)
class Detections:
    """`boxes` [N, 4] as FoundObject has them, `scores` [N], `classes` [N]: COCO's category ids."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def lacked_by(self, others: "Detections") -> list[int]:
        """The indices of those that are sure and not among `others`."""
        return [index for index in np.flatnonzero(self.scores >= SURE).tolist() if not self._is_in(others, index)]

    def objects(self) -> list[FoundObject]:
        """Those that are sure, the surest first, each but once."""
        names = coco_classes()
        sure = np.flatnonzero(self.scores >= SURE)
        kept = sure[suppress(self.boxes[sure], self.scores[sure], self.classes[sure], MAX_OVERLAP)]
        return [FoundObject(names[int(self.classes[i])], float(self.scores[i]), self.boxes[i]) for i in kept]

    def _is_in(self, others: "Detections", index: int) -> bool:
        same = others.classes == self.classes[index]
        same &= np.abs(others.scores - self.scores[index]) <= SCORE_DIFFERENCE
        same &= (np.abs(others.boxes - self.boxes[index]) <= BOX_DIFFERENCE).all(axis=1)
        return bool(same.any())


def check_against_network(folder: Path, network: Network, sample: np.ndarray) -> list[FoundObject]:
    """The objects that the SavedModel in `folder` finds in `sample`, uint8 RGB [H, W, 3].

    They must be those that the network's own graph gives, with its own choice of the 100 likeliest, for the picture
    scaled and framed by OpenCV. Raises ModelError where they are not, or there is none.
    """
    tensorflow = import_tensorflow()
    serve = tensorflow.saved_model.load(str(folder)).signatures[SIGNATURE.name]
    outputs = serve(input_tensor=tensorflow.constant(sample[np.newaxis]))
    given = Detections(*(outputs[f"detection_{name}"].numpy()[0] for name in ("boxes", "scores", "classes")))
    wanted = _own_detections(network, sample)
    for one, other, who in ((given, wanted, "only the export"), (wanted, given, "only its network's own graph")):
        for index in one.lacked_by(other):
            label = coco_classes()[int(one.classes[index])]
            raise ModelError(
                f"{who} finds a {label} with the score {one.scores[index]:.3f} in the sample, so it was discarded"
            )
    objects = given.objects()
    if not objects:
        raise ModelError(
            f"the exported detector finds nothing in the sample that it is {SURE} sure of: it was discarded"
        )
    return objects


def _own_detections(network: Network, sample: np.ndarray) -> Detections:
    tensorflow = import_tensorflow()
    full = np.array(sample.shape[:2])
    size = np.maximum((full * SIDE / full.max() + 0.5).astype(int), 1)
    (top, left), (rows, columns) = (SIDE - size) // 2, size
    framed = np.zeros([1, SIDE, SIDE, 3], np.float32)
    framed[0, top : top + rows, left : left + columns] = cv2.resize(
        sample.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR
    )
    run = tensorflow.function(network.detections, autograph=False)
    xmin, ymin, xmax, ymax, scores, classes = run(tensorflow.constant(framed)).numpy()[0].T
    corners = np.stack([ymin, xmin, ymax, xmax], axis=1)
    boxes = (corners - [top, left, top, left]) / [rows, columns, rows, columns]
    return Detections(boxes, scores, np.array(list(coco_classes()))[classes.astype(int)])
