from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

from visionserve.bench.figures.document import Run
from visionserve.bench.load.results import decoded

# Below so many requests over the limit, one more or less decides.
ENOUGH_OVER = 10


@dataclass(frozen=True)
class LatencyLimit:
    """`percentile` percent of requests must be answered within `limit_ms`; one that failed was not.

    `percentile` has at most one decimal, so that shares are counted in whole thousandths, without rounding.
    """

    percentile: float
    limit_ms: float

    def __str__(self) -> str:
        return f"p{self.percentile:g} <= {self.limit_ms:g} ms"

    @property
    def limit_s(self) -> float:
        return self.limit_ms / 1000

    @property
    def share(self) -> float:
        """The part of all requests that may be over the limit, 0 to 1."""
        return self._thousandths / 1000

    @property
    def enough(self) -> int:
        """How many requests a judgment of this percentile needs."""
        return -(-ENOUGH_OVER * 1000 // self._thousandths)

    def allowed(self, requests: int) -> int:
        """How many of so many requests may be over the limit."""
        return requests * self._thousandths // 1000

    def over(self, latencies_us: HdrHistogram) -> int:
        """How many latencies are over the limit, by more than the histogram's own 0.1 %."""
        limit_us = self.limit_ms * 1000
        return sum(
            step.count_added_in_this_iter_step
            for step in latencies_us.get_recorded_iterator()
            if latencies_us.get_lowest_equivalent_value(step.value_iterated_to) > limit_us
        )

    def over_in(self, run: Run) -> int:
        """How many of a run's requests are over the limit, the failed ones among them."""
        return self.over(decoded(run.latency_histogram)) + run.failed

    @property
    def _thousandths(self) -> int:
        return 1000 - round(self.percentile * 10)
