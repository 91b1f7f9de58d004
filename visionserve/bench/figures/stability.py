from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

from visionserve.bench.load.outcome import Outcome
from visionserve.bench.load.plan import Plan

WINDOWS = 5
MIN_SERVED = 100
MAX_DEVIATION = 0.10
MAX_GROWTH = 1.5
# Student's t for a two-sided 95 % interval with WINDOWS - 1 = 4 degrees of freedom.
T_95 = 2.776


@dataclass(frozen=True)
class Stability:
    """Whether the measured time was long and steady enough to be trusted.

    The complete seconds, those before the first answers left out, are cut into five windows of equal length (the
    method of batch means). `margin_95` is half the width of the 95 % confidence interval of inferences/s, as a
    fraction of their mean. `doubts` has one sentence for each reason not to trust the figures.
    """

    windows_inferences_per_s: tuple[float, ...]
    windows_p50_ms: tuple[float | None, ...]
    margin_95: float | None
    doubts: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        return not self.doubts


def stability(outcome: Outcome, plan: Plan) -> Stability:
    # Until the first answers have come, fewer come than are to come.
    median_us = outcome.tally.latency_us.get_value_at_percentile(50.0) if outcome.tally.served else 0
    windows = outcome.timeline.windows(WINDOWS, skip_s=max(1.0, median_us / 1e6))
    rates = tuple(window.inferences / window.length_s for window in windows)
    medians = tuple(window.p50_ms for window in windows)
    average = mean(rates) if rates else 0.0
    doubts: list[str] = []
    if not windows:
        doubts.append(f"too short: it has not {WINDOWS} complete seconds to compare after the first answers")
    if outcome.tally.served < MIN_SERVED:
        doubts.append(f"too few requests: p99 of {outcome.tally.served} says little; send {MIN_SERVED} or more")
    if windows and average:
        # Answers come in lumps: of all in flight in a closed loop, and at random in a Poisson process.
        images = average * windows[0].length_s
        lump = plan.workload.batch_size * (
            3 * sqrt(images / plan.workload.batch_size) if plan.pacer.open_loop else plan.clients
        )
        worst = max(abs(rate - average) for rate in rates)
        if worst > MAX_DEVIATION * average + lump / windows[0].length_s:
            doubts.append(
                f"unsteady: windows of {windows[0].length_s:g} s had {min(rates):.1f} to {max(rates):.1f} inferences/s"
            )
        first, last = medians[0], medians[-1]
        if first and last and last > MAX_GROWTH * first and last == max(median or 0 for median in medians):
            doubts.append(
                f"latency kept growing: p50 was {first:.1f} ms in the first window and {last:.1f} ms in the last"
            )
    return Stability(
        windows_inferences_per_s=rates,
        windows_p50_ms=medians,
        margin_95=T_95 * stdev(rates) / sqrt(WINDOWS) / average if average else None,
        doubts=tuple(doubts),
    )
