import re
from typing import NamedTuple, Protocol

import numpy as np

from visionserve.errors import UsageError


class Serving(Protocol):
    """Models behind TensorFlow Serving's protocol, asked through their signature `image_bytes`. Safe for threads."""

    def probabilities(self, model: str, image: bytes) -> np.ndarray:
        """An image file -> float32 [K + 1]: the background, then the model's K classes.

        Raises InvalidInputError for an image that the model's graph cannot decode, ModelUnavailableError and
        OverloadedError where a retry may help, InferenceError when the model fails, ModelError for another output.
        """

    def available(self, model: str) -> bool:
        """Whether the model is loaded and has the signature."""

    def close(self) -> None: ...


class Address(NamedTuple):
    """A TensorFlow Serving: `location` is HOST:PORT of gRPC or http(s)://HOST:PORT of REST; `model`: "" for none."""

    location: str
    model: str

    @property
    def is_rest(self) -> bool:
        return "://" in self.location


def parse_address(text: str) -> Address:
    """HOST:PORT[/MODEL] or http(s)://HOST:PORT[/v1/models/MODEL]. Raises UsageError."""
    model = r"(?P<model>[^/:\s]+)"
    parts = re.fullmatch(rf"(?P<location>[^/\s]+:\d+)(?:/{model})?", text) or re.fullmatch(
        rf"(?P<location>https?://[^/\s]+)(?:/|/v1/models/{model}(?::predict)?)?", text
    )
    if parts is None:
        raise UsageError(
            f"--tensorflow-serving (or REST_TENSORFLOW_SERVING) {text!r} is neither HOST:PORT nor http://HOST:PORT, "
            "with or without a model behind it (/MODEL or /v1/models/MODEL)."
        )
    return Address(parts["location"], parts["model"] or "")
