from visionserve.bench.load.pacing import NS_PER_S, Pacer

# A worker whose requests got no answer at all for so long and so often takes the server for gone.
GIVE_UP_AFTER_S = 5.0
GIVE_UP_AFTER_REQUESTS = 3


class Silence:
    """How long and how often a worker's requests have got no answer, and whether that means that it should give up.

    An open loop goes on for a whole time-out, as its load is what a restarting server will find.
    """

    def __init__(self, pacer: Pacer, timeout_s: float, start_ns: int) -> None:
        self._patience_ns = round((timeout_s if pacer.open_loop else min(timeout_s, GIVE_UP_AFTER_S)) * NS_PER_S)
        self._last_answer_ns = start_ns
        self._unanswered = 0

    def end(self, ended_ns: int) -> None:
        self._unanswered, self._last_answer_ns = 0, ended_ns

    def lasts(self, now_ns: int) -> bool:
        """Counts a request without an answer; True when it was one too many."""
        self._unanswered += 1
        return self._unanswered >= GIVE_UP_AFTER_REQUESTS and now_ns - self._last_answer_ns >= self._patience_ns
