from dataclasses import dataclass
from typing import Any

from visionserve.bench.endpoint import Endpoint
from visionserve.bench.pacing import FixedCount, Pacer, UntilDeadline
from visionserve.bench.workload import ImageBatch


@dataclass(frozen=True)
class Plan:
    """A whole run: `workers` processes of `threads` clients, each sending `workload` as `pacer` says."""

    endpoint: Endpoint
    workload: ImageBatch
    pacer: Pacer
    workers: int
    threads: int
    timeout_s: float

    @property
    def clients(self) -> int:
        return self.workers * self.threads

    def request(self) -> bytes:
        """The bytes on the wire of one request."""
        payload = self.workload.payload()
        return self.endpoint.request(payload.body, payload.content_type)

    def settings(self) -> dict[str, Any]:
        """The plan as it is kept beside the figures."""
        return {
            "endpoint": str(self.endpoint),
            "workers": self.workers,
            "threads": self.threads,
            "samples": self.pacer.samples if isinstance(self.pacer, FixedCount) else None,
            "seconds": self.pacer.seconds if isinstance(self.pacer, UntilDeadline) else None,
            "batch_size": self.workload.batch_size,
            "image_bytes": len(self.workload.image),
            "timeout_s": self.timeout_s,
        }
