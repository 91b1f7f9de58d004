from collections import Counter
from dataclasses import dataclass, field

from visionserve.bench.transport.failures import Failure


@dataclass
class Counts:
    """Samples (images), whatever the requests that they went in. `issued` are those that LoadGen asked for so far;
    `not_sent` those that were failed unasked because the endpoint had stopped answering."""

    issued: int = 0
    served: int = 0
    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    not_sent: int = 0
    waited_for_connection: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def add(self, samples: int, failure: Failure | None, sent: int, received: int) -> None:
        """Counts one request of so many samples, and bytes."""
        self.requests += 1
        self.bytes_sent += sent
        self.bytes_received += received
        if failure is None:
            self.served += samples
        else:
            self.failed[failure.kind] += samples
            self.examples.setdefault(failure.kind, failure.detail)

    @property
    def unserved(self) -> int:
        return self.failed.total() + self.not_sent
