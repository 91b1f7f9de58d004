"""The function that DCF's watcher loads once, with the model, and calls for every request, from several threads."""

import sys
from typing import Any

import cv2

from visionserve.errors import VisionserveError
from visionserve.services.dcf.answer import answer
from visionserve.services.dcf.detector import Detector
from visionserve.services.dcf.settings import read_settings

# Requests run side by side already.
cv2.setNumThreads(1)
try:
    detector = Detector(read_settings())
except VisionserveError as error:
    # The watcher ends, and DCF's log of the function shows why.
    sys.exit(f"Error: {error}")


def Handler(req: Any = None) -> Any:
    """req.input: an image in base64, str or bytes -> a JSON list of the objects in it, or {"error": SENTENCE}.

    DCF's later watchers take a class: they call it without a request first, and then what that gives.
    """
    return Handler if req is None else answer(detector, req.input)
