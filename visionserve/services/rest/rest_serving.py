"""TensorFlow Serving's REST protocol (https://www.tensorflow.org/tfx/serving/api_rest) from the client's side."""

from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
import pybase64
import urllib3

from visionserve.errors import InferenceError, InvalidInputError, ModelUnavailableError, VisionserveError
from visionserve.inference.image_bytes import IMAGE_BYTES
from visionserve.services.rest.grpc_serving import first_row, no_signature

# Seconds for a connection, and for the answers that need no model.
PROMPTLY = 2.0
UNAVAILABLE = {404, 502, 503, 504}


class RestServing:
    """Serving over REST."""

    def __init__(self, url: str, connections: int, timeout: float) -> None:
        """`url`: http(s)://HOST:PORT; `connections`: kept open at most; `timeout`: seconds for an answer."""
        self._url = url
        self._timeout = timeout
        self._pool = urllib3.PoolManager(maxsize=connections, retries=False)
        self._signed: set[str] = set()

    def probabilities(self, model: str, image: bytes) -> np.ndarray:
        encoded = pybase64.b64encode(image).decode()
        body = orjson.dumps({"signature_name": IMAGE_BYTES, "instances": [{IMAGE_BYTES: {"b64": encoded}}]})
        try:
            answer = self._ask("POST", model, ":predict", self._timeout, body)
        except InvalidInputError as error:
            if not self._has_signature(model):
                raise no_signature(model, self._url) from error
            raise
        rows = answer.get("predictions")
        row = rows[0] if isinstance(rows, list) and len(rows) == 1 and isinstance(rows[0], dict) else {}
        return first_row(model, {name: np.array([value], np.float32) for name, value in row.items()})

    def available(self, model: str) -> bool:
        try:
            versions = self._ask("GET", model, "", PROMPTLY).get("model_version_status", [])
        except VisionserveError:
            return False
        return any(version.get("state") == "AVAILABLE" for version in versions) and self._has_signature(model)

    def close(self) -> None:
        self._pool.clear()

    def _has_signature(self, model: str) -> bool:
        if model not in self._signed:
            try:
                metadata = self._ask("GET", model, "/metadata", PROMPTLY)["metadata"]
            except VisionserveError:
                return False
            if IMAGE_BYTES in metadata["signature_def"]["signature_def"]:
                self._signed.add(model)
        return model in self._signed

    def _ask(self, method: str, model: str, what: str, timeout: float, body: bytes | None = None) -> dict[str, Any]:
        url = f"{self._url}/v1/models/{quote(model, safe='')}{what}"
        try:
            answer = self._pool.request(method, url, body=body, timeout=urllib3.Timeout(PROMPTLY, timeout))
        except urllib3.exceptions.HTTPError as error:
            raise ModelUnavailableError(f"The model server does not answer: {error}") from error
        if answer.status == 200:
            return orjson.loads(answer.data)
        reason = f"{answer.status} {answer.data[:500].decode(errors='replace').strip()}"
        if answer.status == 400:
            raise InvalidInputError(f"The model refused the request: {reason}")
        if answer.status in UNAVAILABLE:
            raise ModelUnavailableError(f"The model server cannot answer for model {model}: {reason}")
        raise InferenceError(f"The model failed on the request: {reason}")
