import time
from collections.abc import Callable, Iterator

from visionserve.cortex.overview import Row


def watch(overview: Callable[[], list[Row]], interval: float) -> Iterator[list[Row]]:
    """The rows of `overview` every `interval` seconds, without end; from the second time on with what has happened
    since the time before: requests a second, and the mean latency of just those."""
    before: dict[tuple[str, str], Row] = {}
    looked = 0.0
    while True:
        rows, now = overview(), time.monotonic()
        yield [_with_recent(row, before.get((row.env, row.name)), now - looked) for row in rows]
        before, looked = {(row.env, row.name): row for row in rows}, now
        time.sleep(interval)


def _with_recent(row: Row, before: Row | None, seconds: float) -> Row:
    if before is None:
        return row
    count, count_before = sum(row.requests.values()), sum(before.requests.values())
    answered = count - count_before
    if answered < 0:
        return row  # another API by now, which counts anew
    latency = None
    if answered and row.latency_ms is not None:
        latency = (row.latency_ms * count - (before.latency_ms or 0.0) * count_before) / answered
    return row.model_copy(update={"requests_per_second": answered / seconds, "recent_latency_ms": latency})
