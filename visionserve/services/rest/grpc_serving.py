from collections.abc import Iterable

import numpy as np

from visionserve.errors import InvalidInputError, ModelError, ModelUnavailableError, NotFoundError, VisionserveError
from visionserve.inference.client import ServingClient
from visionserve.inference.image_bytes import IMAGE_BYTES


class GrpcServing:
    """Serving over gRPC. A server that ends and comes back is asked again (see ServingClient)."""

    def __init__(self, address: str, models: Iterable[str], timeout: float) -> None:
        """`address`: HOST:PORT or unix:PATH; `timeout`: seconds for an answer."""
        self._address = address
        self._clients = {name: ServingClient(address, {name: IMAGE_BYTES}, timeout) for name in models}

    def probabilities(self, model: str, image: bytes) -> np.ndarray:
        images = np.empty(1, object)
        images[0] = image
        try:
            outputs = self._clients[model].predict({IMAGE_BYTES: images})
        except NotFoundError as error:
            raise ModelUnavailableError(f"The model server does not have model {model}: {error}") from error
        except InvalidInputError as error:
            if not self._has_signature(model):
                raise no_signature(model, self._address) from error
            raise
        return first_row(model, outputs)

    def available(self, model: str) -> bool:
        return self._clients[model].available() and self._has_signature(model)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _has_signature(self, model: str) -> bool:
        try:
            return IMAGE_BYTES in self._clients[model].input_signatures()[model]["input_signatures"]
        except VisionserveError:
            return False


def no_signature(model: str, where: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"Model {model} at {where} has no signature {IMAGE_BYTES}: serve a build of visionserve export cpu."
    )


def first_row(model: str, outputs: dict[str, np.ndarray]) -> np.ndarray:
    """`outputs`: of the signature for one image -> float32 [K + 1]. Raises ModelError."""
    probabilities = outputs.get("probabilities")
    if probabilities is None or probabilities.ndim != 2 or len(probabilities) != 1:
        shapes = {name: list(array.shape) for name, array in outputs.items()}
        raise ModelError(f"Model {model} gave {shapes} for an image, not probabilities [1, K + 1].")
    return probabilities[0]
