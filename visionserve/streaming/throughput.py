import numpy as np

from visionserve.streaming.job_record import JobRecord

# Of the rate: how many at most, and seconds that each has at least.
WINDOWS = 60
MIN_WINDOW = 2.0
# In usual distances between two counts.
LONG_GAP = 2.5


def steady_rate(record: JobRecord) -> float:
    """Images/s from the first count above 0 to the first of the last one; nan where there are no two."""
    points = _points(record)
    if len(points) < 2:
        return float("nan")
    (start, first), (end, last) = points[0], points[-1]
    return (last - first) / (end - start)


def rates(record: JobRecord) -> tuple[np.ndarray, np.ndarray]:
    """The edges of equal windows in seconds since the job's start, [W + 1], and images/s in each, [W]."""
    end = max(record.counts[-1][0] - record.start, 1e-3)
    windows = max(1, min(WINDOWS, int(end / MIN_WINDOW)))
    edges = np.linspace(0, end, windows + 1)
    points = _points(record)
    if not points:
        return edges, np.zeros(windows)
    gap = float(np.median(np.diff([time for time, _ in points]))) if len(points) > 1 else MIN_WINDOW
    line = [(record.start, 0)]
    for time, images in points:
        # Images that come after a long time without any have not been coming all the while.
        if time - line[-1][0] > LONG_GAP * gap:
            line.append((time - gap, line[-1][1]))
        line.append((time, images))
    times, totals = np.array(line).T
    return edges, np.diff(np.interp(edges, times - record.start, totals)) / np.diff(edges)


def _points(record: JobRecord) -> list[tuple[float, int]]:
    """The samples in which the count had changed."""
    points: list[tuple[float, int]] = []
    for time, images in record.counts:
        if images > (points[-1][1] if points else 0):
            points.append((time, images))
    return points
