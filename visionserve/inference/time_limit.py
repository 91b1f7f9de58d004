from visionserve.inference.engine import Arrays


class BatchTimeLimit:
    """How long a batch may run before its engine counts as hung: far longer than any that it has needed.

    Ten times the slowest that was seen, for as many elements, and 3 seconds at the least. A shape that the engine meets
    for the first time may take ten times what its very first batch took: some engines compile for each shape.
    The slowest fades by 1 % with each batch and rises at most twofold with one, so that a batch during which the whole
    machine stood still does not change it for long.
    """

    LEAST = 3.0
    FACTOR = 10.0
    UNKNOWN = 120.0
    FADE = 0.99
    RISE = 2.0
    # A model with open dimensions may meet any number of shapes: what is forgotten counts as new once more.
    SHAPES = 1024

    def __init__(self) -> None:
        self._first: float | None = None
        self._seconds_per_element = 0.0
        self._shapes: set[tuple] = set()

    def seconds(self, inputs: Arrays) -> float:
        """inputs: name -> array [N, ...] of the batch that is about to run; UNKNOWN where none has run before."""
        if self._first is None:
            return self.UNKNOWN
        expected = self._seconds_per_element * _elements(inputs)
        if _shapes(inputs) not in self._shapes:
            expected = max(expected, self._first)
        return max(self.LEAST, self.FACTOR * expected)

    def observe(self, inputs: Arrays, seconds: float) -> None:
        """After a batch. The first one tells what a new shape costs, all others what a known one does."""
        if self._first is None:
            self._first = seconds
        elif _shapes(inputs) in self._shapes or seconds < self._first:
            self._learn(seconds / _elements(inputs))
        if len(self._shapes) >= self.SHAPES:
            self._shapes.clear()
        self._shapes.add(_shapes(inputs))

    def _learn(self, seconds_per_element: float) -> None:
        slowest = self._seconds_per_element
        risen = min(seconds_per_element, self.RISE * slowest) if slowest else seconds_per_element
        self._seconds_per_element = max(self.FADE * slowest, risen)


def _elements(inputs: Arrays) -> int:
    return max(1, sum(array.size for array in inputs.values()))


def _shapes(inputs: Arrays) -> tuple:
    return tuple((name, array.shape) for name, array in sorted(inputs.items()))
