"""What every peer shares: pixels, engine and labels as a user of OpenCV and OpenVINO would write them."""

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent.parent
LABELS = json.loads((REPOSITORY / "visionserve/vision/imagenet_classes.json").read_text())

Engine = Callable[[np.ndarray], np.ndarray]


def decode(img: str) -> np.ndarray:
    """Base64 of a JPEG or PNG -> RGB uint8 [224, 224, 3], the center of the image at short side 256."""
    image = cv2.imdecode(np.frombuffer(base64.b64decode(img), np.uint8), cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    scale = 256 / min(height, width)
    image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    top, left = (image.shape[0] - 224) // 2, (image.shape[1] - 224) // 2
    return cv2.cvtColor(image[top : top + 224, left : left + 224], cv2.COLOR_BGR2RGB)


def load_engine() -> Engine:
    """VS_ENGINE's function from uint8 [N, 224, 224, 3] to float32 probabilities [N, 1000]; any thread may call it."""
    if os.environ["VS_ENGINE"] == "null":
        constant = np.linspace(0, 0.002, 1000, dtype=np.float32)
        return lambda images: np.tile(constant, (len(images), 1))
    import openvino

    # As this project computes: on CPUs with bfloat16 OpenVINO would choose that, whose answers are others.
    options = {"PERFORMANCE_HINT": os.environ.get("HINT", "LATENCY"), "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(REPOSITORY / "models/resnet50/1", "CPU", options)
    return lambda images: model.infer_new_request({"input": images})["output"]


def top5(probabilities: np.ndarray) -> list[str]:
    """float32 [1000] -> the five most likely labels, most likely first."""
    return [LABELS[index] for index in np.argsort(probabilities)[:-6:-1]]
