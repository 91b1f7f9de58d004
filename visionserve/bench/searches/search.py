from dataclasses import dataclass
from multiprocessing.connection import wait

from visionserve.bench.load.interrupts import Interrupts
from visionserve.bench.load.plan import Plan
from visionserve.bench.searches.latency_limit import LatencyLimit
from visionserve.bench.searches.steps import Steps, at_rate
from visionserve.bench.searches.trial import Cut, Trial, judged

PRECISION = 0.05
REPEATS = 3
MAX_DOUBLINGS = 20
MAX_HALVINGS = 10
# By how much to step down each time that the rate found does not hold when it is repeated.
STEPS_DOWN = (0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class Rests:
    """The pauses between trials, which a Ctrl-C ends; the next load then does not start."""

    interrupts: Interrupts
    settle_s: float

    def after(self, trial: Trial) -> None:
        wait([self.interrupts.alarm], timeout=self.settle_s + trial.drain_s)


class Search:
    """Open-loop trials of `seconds` each, in search of the highest rate that meets `limit`.

    A rate fails when two trials at it do, or one in which most requests were over the limit: a single hiccup of a
    machine is no limit of the server.
    """

    def __init__(self, limit: LatencyLimit, plan: Plan, steps: Steps, rests: Rests, seconds: float) -> None:
        self.trials: list[Trial] = []
        self.failing_rate: float | None = None
        self.seconds = seconds
        self._limit = limit
        self._plan = plan
        self._steps = steps
        self._rests = rests

    @property
    def rate(self) -> float | None:
        """The highest rate that met the limit, below all that did not."""
        below = float("inf") if self.failing_rate is None else self.failing_rate
        return max((trial.rate for trial in self.trials if trial.met and trial.rate < below), default=None)

    @property
    def precision(self) -> float:
        """How near, as a fraction, a rate that fails can be told from one that meets the limit.

        Requests in excess of what a server can do wait for `overload * time` at the end of a trial: an overload
        under limit / time does not show.
        """
        return max(PRECISION, self._limit.limit_s / (self._plan.pacer.warmup_s + self.seconds))

    def at(self, rate: float) -> list[Trial]:
        return [trial for trial in self.trials if trial.rate == rate]

    def run(self, start_rate: float) -> None:
        """Raises steps.Stopped when it is interrupted."""
        self._bracket(start_rate)
        self._bisect()
        for down in STEPS_DOWN:
            if self.rate is None or self._holds(self.rate):
                return
            self._try_below(down)

    def _bracket(self, rate: float) -> None:
        if self._meets(rate):
            for _ in range(MAX_DOUBLINGS):
                rate *= 2
                if not self._meets(rate):
                    return
        else:
            for _ in range(MAX_HALVINGS):
                rate /= 2
                if rate * self.seconds < 1 or self._meets(rate):
                    return

    def _bisect(self) -> None:
        while self.rate is not None and self.failing_rate is not None and not self.narrow:
            self._meets(_readable((self.rate * self.failing_rate) ** 0.5))

    @property
    def narrow(self) -> bool:
        low, high = self.rate, self.failing_rate
        if low is None or high is None:
            return True
        return high - low <= self.precision * low or self.within_a_request

    @property
    def within_a_request(self) -> bool:
        """Whether a trial at the rate that fails has less than one request more than one at the rate that does not."""
        low, high = self.rate, self.failing_rate
        return low is not None and high is not None and (high - low) * self.seconds < 1

    def _meets(self, rate: float) -> bool:
        trial = self._trial(rate)
        if not trial.met and not trial.clear:
            trial = self._trial(rate)
        if not trial.met:
            self._fails(rate)
        return trial.met

    def _holds(self, rate: float) -> bool:
        """Whether the limit is met in further trials too, and by all requests at this rate together."""
        while sum(trial.met for trial in self.at(rate)) < REPEATS:
            if not self._trial(rate).met:
                self._fails(rate)
                return False
        over = sum(trial.over for trial in self.at(rate))
        if over > self._limit.allowed(sum(trial.run.requests for trial in self.at(rate))):
            self._fails(rate)
            return False
        return True

    def _try_below(self, down: float) -> None:
        assert self.failing_rate is not None
        lower = _readable(self.failing_rate * (1 - down))
        if lower * self.seconds >= 1 and (self.rate is None or lower > self.rate):
            self._meets(lower)

    def _fails(self, rate: float) -> None:
        self.failing_rate = rate if self.failing_rate is None else min(rate, self.failing_rate)

    def _trial(self, rate: float) -> Trial:
        plan = at_rate(self._plan, rate, self.seconds, series=len(self.trials))
        if self.trials:
            self._rests.after(self.trials[-1])
        cut = Cut(self._limit, plan)
        trial = judged(rate, self._steps.measure(plan, cut), plan, self._limit, cut.made)
        self.trials.append(trial)
        return trial


def _readable(rate: float) -> float:
    return float(f"{rate:.3g}")
