from collections.abc import Callable
from dataclasses import replace

from visionserve.bench.figures.document import Run
from visionserve.bench.load.pacing import ConstantRate, PoissonRate
from visionserve.bench.load.plan import Plan
from visionserve.bench.load.run import Watch
from visionserve.errors import UsageError, VisionserveError

# Runs a load to its end, or until the watch ends it, and gives its figures. Interrupted before it sent any load, it
# raises KeyboardInterrupt; within one, its run says so.
Measure = Callable[[Plan, Watch | None], Run]


class Stopped(Exception):
    """No further load is to be measured."""


class Steps:
    """Loads measured one after the other. `ended_early` says in a few words why the last ones are missing, if they are.

    A Ctrl-C ends them, and so does an endpoint that no longer answers: what was measured before is kept.
    """

    def __init__(self, measure: Measure) -> None:
        self.runs: list[Run] = []
        self.ended_early: str | None = None
        self.interrupted = False
        self._measure = measure

    def measure(self, plan: Plan, watch: Watch | None = None) -> Run:
        """Runs `plan`.

        Raises Stopped when it was interrupted or could not start. Before the first load, it raises what that raised.
        """
        try:
            run = self._measure(plan, watch)
        except KeyboardInterrupt:
            if not self.runs:
                raise
            raise self._interrupted() from None
        except VisionserveError as error:
            if not self.runs:
                raise
            self.ended_early = str(error).rstrip(".")
            raise Stopped from error
        self.runs.append(run)
        if run.interrupted:
            raise self._interrupted()
        return run

    def _interrupted(self) -> Stopped:
        self.ended_early, self.interrupted = "interrupted", True
        return Stopped()


def at_rate(plan: Plan, rate: float, seconds: float | None = None, series: int = 0) -> Plan:
    """The load in an open loop at `rate` requests a second, for as long as before unless `seconds` says how long.

    Arrivals stay Poisson where they were, with others for another `series`; else they are constant.

    Raises UsageError when neither says how long.
    """
    pacer = plan.pacer
    length_s = pacer.seconds if seconds is None else seconds
    if length_s is None:
        raise UsageError("A rate needs a time: give -i with the seconds that each step is to last.")
    if isinstance(pacer, PoissonRate):
        return plan.paced(replace(pacer, rate=rate, seconds=length_s, seed=pacer.seed + series))
    return plan.paced(ConstantRate(rate, length_s, pacer.warmup_s))
