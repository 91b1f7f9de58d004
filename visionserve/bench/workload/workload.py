from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice

from visionserve.bench.transport import failures
from visionserve.bench.transport.answers import Answer
from visionserve.bench.transport.endpoint import Endpoint
from visionserve.bench.transport.failures import Failure
from visionserve.bench.workload.payloads import PayloadFormat, WrongAnswer, parsed, wrong_answer


@dataclass(frozen=True)
class Workload:
    """What is sent, over and over: the images in turn, `batch_size` a request.

    With `expect`, an answer whose most likely label is another one counts as a wrong answer.
    """

    endpoint: Endpoint
    images: Sequence[bytes]
    payload: PayloadFormat
    batch_size: int = 1
    expect: str | None = None

    @cached_property
    def requests(self) -> list[bytes]:
        """The bytes on the wire of one round through the images; the last request is filled up with the first ones."""
        round_trips = -(-len(self.images) // self.batch_size)
        images = cycle(self.images)
        return [self.request(list(islice(images, self.batch_size))) for _ in range(round_trips)]

    def request(self, images: Sequence[bytes]) -> bytes:
        """The bytes on the wire of one request of these encoded images."""
        body, content_type = self.payload.encode(images)
        return self.endpoint.request(body, content_type)

    def judge(self, answer: Answer) -> Failure | None:
        """None when the answer is 200 with one result an image, and the expected one; else why it is not served."""
        if answer.status != 200:
            return failures.of_status(answer.status, answer.body, answer.location)
        try:
            results = self.payload.results(parsed(answer.body))
            if len(results) != self.batch_size:
                raise WrongAnswer(f"{len(results)} results for {self.batch_size} images")
            tops = [] if self.expect is None else [self.payload.top(result) for result in results]
        except WrongAnswer as error:
            return wrong_answer(error, answer.body)
        unexpected = next((top for top in tops if top != self.expect), None)
        if unexpected is not None:
            return Failure(failures.WRONG_ANSWER, f"{unexpected} instead of {self.expect}")
        return None
