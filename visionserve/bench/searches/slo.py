import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from math import ceil, floor

from visionserve.bench.figures.document import Run, SloAnswer
from visionserve.bench.figures.units import count
from visionserve.bench.load.interrupts import Interrupts
from visionserve.bench.load.plan import Plan
from visionserve.bench.searches.confidence import confidence
from visionserve.bench.searches.latency_limit import LatencyLimit
from visionserve.bench.searches.search import PRECISION, REPEATS, Rests, Search
from visionserve.bench.searches.steps import Measure, Steps, Stopped
from visionserve.errors import UsageError

MAX_LIMIT_MS = 3_600_000.0
SURE = 0.95


class Slo(LatencyLimit):
    """A service level objective, and the search for the highest rate of requests that meets it."""

    @classmethod
    def parse(cls, text: str) -> "Slo":
        """Of "p99=100ms", "p99.9=1.5s". Raises UsageError."""
        match = re.fullmatch(r"p([0-9]{1,2}(?:\.[0-9])?)=([0-9]+(?:\.[0-9]+)?)(ms|s)", text.strip())
        if match is None:
            raise UsageError(f"--slo {text[:40]!r} is no percentile and limit: write it as p99=100ms or p99.9=1.5s.")
        percentile, limit_ms = float(match[1]), float(match[2]) * (1000 if match[3] == "s" else 1)
        if percentile == 0:
            raise UsageError(f"--slo {text[:40]!r}: the percentile must be above 0 and below 100.")
        if not 0 < limit_ms <= MAX_LIMIT_MS:
            raise UsageError(f"--slo {text[:40]!r}: the limit must be above 0 and at most an hour.")
        return cls(percentile, limit_ms)

    def search(
        self,
        plan: Plan,
        measure: Measure,
        interrupts: Interrupts,
        start_rate: float | None = None,
        seconds: float = 10.0,
        settle_s: float = 1.0,
    ) -> Run:
        """The highest open-loop rate at which `plan` meets this objective, in trials of `seconds` seconds each.

        From `start_rate` (1 request/s) the rate doubles until a trial fails (halves, if the first one does), then the
        gap between the highest rate that met it and the lowest that failed is halved until they are within 5 %, and
        the rate found is repeated; where it does not hold, a lower one is. Between trials the server is left alone for
        `settle_s` seconds, and for as long as it needs for what a trial that was cut short left behind;
        `interrupts` end that wait too.

        Returns the last trial at the rate found (without one, at the lowest rate tried), with all trials as its
        `steps`. After a Ctrl-C, or when the endpoint no longer answers, it returns what is known until then.

        Raises UsageError when the limit is beyond the plan's time-out, and what the first trial raises.
        """
        if self.limit_s > plan.timeout_s:
            raise UsageError(
                f"--slo {self}: after --timeout {plan.timeout_s:g} s a request counts as failed; raise that as well."
            )
        steps = Steps(measure)
        search = Search(self, plan, steps, Rests(interrupts, settle_s), seconds)
        with suppress(Stopped):
            search.run(1.0 if start_rate is None else start_rate)
        answer = self._answer(search, steps)
        last = steps.runs[-1]
        if search.trials:
            shown = min(trial.rate for trial in search.trials) if answer.rate is None else answer.rate
            last = search.at(shown)[-1].run
        return replace(last, steps=tuple(steps.runs), slo=answer, interrupted=steps.interrupted)

    def ok(self, run: Run) -> bool:
        """Whether a search came to its end and found a rate."""
        return run.slo is not None and run.slo.complete and run.slo.rate is not None

    def text(self, run: Run) -> str:
        """The answer in words: one sentence, and a line for each reason to doubt it."""
        answer = run.slo
        assert answer is not None
        return "\n".join([self._sentence(answer), *(f"note: {doubt}" for doubt in answer.doubts)])

    def _sentence(self, answer: SloAnswer) -> str:
        counted = f"{count(answer.requests, 'request')} of which {answer.over_limit} over the limit"
        if not answer.repeats:
            return f"{self}: no trial came to its end"
        if answer.rate is None:
            return f"{self} holds at no rate tried: the lowest had {counted}"
        fails = "no rate tried fails" if answer.failing_rate is None else f"fails at {answer.failing_rate:.3g}"
        return (
            f"{self} holds up to {answer.rate:.3g} requests/s ({fails}); met in {answer.repeats_met} of "
            f"{count(answer.repeats, 'trial')} of {answer.trial_s:g} s, {counted}; {_sure(answer.confidence)} that at "
            f"most {self.share * 100:g} % are, taking requests for independent"
        )

    def _answer(self, search: Search, steps: Steps) -> SloAnswer:
        rate = search.rate
        lowest = min((trial.rate for trial in search.trials), default=None)
        shown = rate if rate is not None else lowest
        trials = [] if shown is None else search.at(shown)
        requests, over = sum(trial.run.requests for trial in trials), sum(trial.over for trial in trials)
        limits = _client_limits(search)
        complete = steps.ended_early is None
        doubts = [*limits, *self._resolution(search)]
        if rate is not None:
            doubts += self._evidence(rate, requests, len(trials), search.seconds)
        if not complete:
            doubts.append(f"the search ended early, after {count(len(steps.runs), 'trial')}: {steps.ended_early}")
        return SloAnswer(
            percentile=self.percentile,
            limit_ms=self.limit_ms,
            rate=rate,
            failing_rate=search.failing_rate,
            requests=requests,
            over_limit=over,
            confidence=None if rate is None else confidence(over, requests, self.share),
            repeats=len(trials),
            repeats_met=sum(trial.met for trial in trials),
            trial_s=search.seconds,
            client_limited=bool(limits),
            complete=complete,
            doubts=tuple(doubts),
        )

    def _resolution(self, search: Search) -> Iterator[str]:
        low, high = search.rate, search.failing_rate
        if search.precision > PRECISION:
            longer = ceil(self.limit_s / PRECISION)
            yield (
                f"in trials of {search.seconds:g} s an overload of less than {search.precision:.0%} does not show, as "
                f"its queue takes longer to grow past {self.limit_ms:g} ms: use trials of {longer} s (-i {longer})"
            )
        elif low is not None and high is not None and high - low > PRECISION * low and search.within_a_request:
            yield (
                f"{low:.3g} and {high:.3g} requests/s differ by less than one request in a trial of "
                f"{search.seconds:g} s: longer trials (-i) tell more"
            )

    def _evidence(self, rate: float, requests: int, trials: int, seconds: float) -> Iterator[str]:
        if trials < REPEATS:
            yield f"{rate:.3g} requests/s was tried {'once' if trials == 1 else 'twice'}, not {REPEATS} times"
        if requests < self.enough:
            longer = max(ceil(self.enough / rate / REPEATS), ceil(seconds))
            yield (
                f"{count(requests, 'request')} are few for p{self.percentile:g}: {self.enough} or more judge it, which "
                f"takes {REPEATS} trials of {longer} s (-i {longer})"
            )


def _client_limits(search: Search) -> list[str]:
    """What the client lacked in the trials at the rate that fails, a sentence each."""
    if search.failing_rate is None:
        return []
    reasons = [trial.client_limit for trial in search.at(search.failing_rate) if not trial.met]
    if not reasons or None in reasons:
        return []
    return [
        f"at {search.failing_rate:.3g} requests/s the client was the limit, not the server, which may do more: "
        f"{reasons[-1]}"
    ]


def _sure(probability: float | None) -> str:
    assert probability is not None
    percent = floor(probability * 1000) / 10
    if percent >= 99.9:
        return "over 99.9 % sure"
    if percent < SURE * 100:
        return f"only {percent:.0f} % sure"
    return f"{percent:g} % sure"
