from dataclasses import dataclass
from typing import NamedTuple

import orjson
import pybase64

from visionserve.bench import failures
from visionserve.bench.failures import Failure


class Payload(NamedTuple):
    """A request body and its content type."""

    body: bytes
    content_type: str


@dataclass(frozen=True)
class ImageBatch:
    """The same image `batch_size` times a request: JSON {"imgs": [base64, ...]}, answered by a list as long."""

    image: bytes
    batch_size: int

    def payload(self) -> Payload:
        encoded = pybase64.b64encode_as_string(self.image)
        return Payload(orjson.dumps({"imgs": [encoded] * self.batch_size}), "application/json")

    def judge(self, status: int, body: bytes) -> Failure | None:
        """None when the answer is 200 with a JSON list of one result an image; else why it is not served."""
        if status != 200:
            return failures.of_status(status, body)
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            return Failure(failures.WRONG_ANSWER, f"not JSON: {failures.excerpt(body)}")
        if not isinstance(answer, list):
            return Failure(failures.WRONG_ANSWER, f"not a list: {failures.excerpt(body)}")
        if len(answer) != self.batch_size:
            return Failure(failures.WRONG_ANSWER, f"{len(answer)} results for {self.batch_size} images")
        return None
