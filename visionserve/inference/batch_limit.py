class AdaptiveBatchLimit:
    """How many rows to join into one inference, learned from what the engine does with them.

    It starts at 4. When twice as many rows wait as the limit allows, the next few batches try that size; the larger
    size stays where it costs less time per row by at least 5 %, so that a CPU ends at small batches, which let fewer
    requests wait for each other, and a GPU at large ones.
    """

    START = 4
    LARGEST = 128
    GAIN = 0.05
    TRIALS = 4
    # Conditions change (another process leaves, clocks rise): what did not pay is tried again, but rarely.
    BATCHES_BETWEEN_TRIALS = 500

    def __init__(self) -> None:
        self.rows = self.START
        self._costs: dict[int, list[float]] = {}
        self._trying = False
        self._rest = 0

    def observe(self, rows: int, seconds: float, waiting: int) -> None:
        """After a batch of `rows` that took `seconds`, with `waiting` rows in the queue."""
        self._rest = max(0, self._rest - 1)
        if rows == self.rows:
            costs = self._costs.setdefault(rows, [])
            costs.append(seconds / rows)
            del costs[: -self.TRIALS]
            if self._trying and len(costs) == self.TRIALS:
                self._judge()
        if not self._trying and not self._rest and self._measured() and waiting >= 2 * self.rows < 2 * self.LARGEST:
            self.rows *= 2
            self._costs.pop(self.rows, None)
            self._trying = True
        elif self._trying and waiting < self.rows // 2:
            self._return()

    def _measured(self) -> bool:
        return len(self._costs.get(self.rows, ())) == self.TRIALS

    def _judge(self) -> None:
        if min(self._costs[self.rows]) <= min(self._costs[self.rows // 2]) * (1 - self.GAIN):
            self._trying = False
        else:
            self._return()

    def _return(self) -> None:
        self.rows //= 2
        self._trying = False
        self._rest = self.BATCHES_BETWEEN_TRIALS
