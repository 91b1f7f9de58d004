import os
import signal
import time
from contextlib import ExitStack
from fractions import Fraction
from math import comb

import pytest

from tests.bench.loads import Session, one_at_a_time, plan_to, session
from tests.bench.servers import Exchange, serving
from visionserve.bench.figures.document import Run, SloAnswer, read, to_json
from visionserve.bench.load.pacing import ConstantRate, PoissonRate
from visionserve.bench.load.plan import Plan
from visionserve.bench.load.results import histogram
from visionserve.bench.load.run import Watch
from visionserve.bench.searches.confidence import confidence
from visionserve.bench.searches.latency_limit import LatencyLimit
from visionserve.bench.searches.slo import Slo
from visionserve.bench.searches.steps import Measure
from visionserve.errors import UsageError

pytestmark = pytest.mark.timing


def answered_in(seconds: float):
    """However many requests there are at a time."""

    def behave(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.answer()

    return behave


def interrupted_after(trials: int, load: Session) -> Measure:
    """Ctrl-C once so many loads were measured."""
    measured = []

    def measure(plan: Plan, watch: Watch | None) -> Run:
        run = load.measure(plan, watch)
        measured.append(run)
        if len(measured) == trials:
            os.kill(os.getpid(), signal.SIGINT)
        return run

    return measure


def answer(run: Run) -> SloAnswer:
    assert run.slo is not None
    return run.slo


@pytest.mark.parametrize(
    ("text", "percentile", "limit_ms"),
    [("p99=100ms", 99.0, 100.0), ("p99.9=1.5s", 99.9, 1500.0), ("p50=0.5ms", 50.0, 0.5), ("p5=1s", 5.0, 1000.0)],
)
def test_an_objective_is_a_percentile_and_a_limit(text: str, percentile: float, limit_ms: float):
    slo = Slo.parse(text)
    assert (slo.percentile, slo.limit_ms) == (percentile, limit_ms)


@pytest.mark.parametrize(
    "text",
    [
        *("", "p99", "p99=", "p99=100", "99=100ms", "p0=1s", "p0.0=1s", "p100=1s", "p99.99=1s", "p-1=1s", "pnan=1s"),
        *("p99=0ms", "p99=-1ms", "p99=nanms", "p99=infs", "p99=1e3ms", "p99=100us", "p99=2h", "p99=3601s"),
        *("p99=" + "9" * 400 + "s", "p99=100ms,p50=10ms", "p\u0669\u0669=100ms"),
    ],
)
def test_what_is_no_objective_is_refused_in_one_sentence(text: str):
    with pytest.raises(UsageError) as refused:
        Slo.parse(text)
    assert str(refused.value).startswith("--slo")
    assert str(refused.value).endswith(".")


def test_a_limit_beyond_the_time_out_is_refused_before_any_load():
    with serving() as (url, record), session() as load, pytest.raises(UsageError, match="--timeout 1 s"):
        Slo.parse("p99=2s").search(plan_to(url, timeout_s=1.0), load.measure, load.interrupts)
    assert not record.bodies


@pytest.mark.parametrize(
    ("percentile", "requests", "allowed"),
    [(99.0, 99, 0), (99.0, 100, 1), (99.0, 1999, 19), (99.9, 1000, 1), (90.0, 10, 1), (50.0, 3, 1), (99.0, 0, 0)],
)
def test_the_share_that_may_be_over_is_counted_without_rounding(percentile: float, requests: int, allowed: int):
    assert LatencyLimit(percentile, 1.0).allowed(requests) == allowed


def test_latencies_are_over_the_limit_when_they_are_longer():
    latencies = histogram()
    for latency_us in (1, 50_000, 99_900, 100_000, 100_200, 3_600_000_000):
        latencies.record_value(latency_us)
    assert LatencyLimit(99.0, 100.0).over(latencies) == 2
    assert LatencyLimit(99.0, 0.5).over(latencies) == 5
    assert LatencyLimit(99.0, 3_600_000.0).over(latencies) == 0


@pytest.mark.parametrize(
    ("over", "requests", "share", "probability"),
    [
        (0, 0, 0.01, 0.01),
        (0, 299, 0.01, 1 - 0.99**300),
        (5, 5, 0.1, 1e-6),
        (50, 100, 0.5, 0.5),
    ],
)
def test_confidence_where_it_is_known_in_closed_form(over: int, requests: int, share: float, probability: float):
    assert confidence(over, requests, share) == pytest.approx(probability, abs=1e-7)


def test_it_takes_299_draws_to_be_95_percent_sure_of_99_percent():
    """The sample size of Wilks's tolerance limit; the uniform prior stands for one of the draws."""
    assert confidence(0, 297, 0.01) < 0.95 < confidence(0, 298, 0.01)


@pytest.mark.parametrize("over", [0, 1, 7, 10, 13, 30, 400])
def test_confidence_is_the_binomial_tail_in_exact_arithmetic(over: int):
    requests, share = 1000, Fraction(1, 100)
    draws = requests + 1
    at_most = sum(comb(draws, hits) * share**hits * (1 - share) ** (draws - hits) for hits in range(over + 1))
    assert confidence(over, requests, 0.01) == pytest.approx(float(1 - at_most), abs=1e-12)


def test_confidence_grows_with_requests_without_losing_its_footing():
    assert confidence(0, 10_000_000, 0.001) == 1.0
    assert confidence(10_000_000, 10_000_000, 0.001) == 0.0
    assert confidence(10_000, 10_000_000, 0.001) == pytest.approx(0.5, abs=0.005)


@pytest.mark.slow
def test_the_rate_found_is_near_what_the_server_can_do():
    with serving(one_at_a_time(0.05)) as (url, _), session() as load:
        slo = Slo.parse("p99=300ms")
        run = slo.search(plan_to(url), load.measure, load.interrupts, 12.0, seconds=3.0, settle_s=0.2)
    found = answer(run)
    assert found.rate is not None
    assert found.failing_rate is not None
    assert 0.6 * 20 <= found.rate <= 1.05 * 20 * (1 + 0.3 / 3)
    assert found.rate < found.failing_rate
    assert found.repeats_met >= 3
    assert found.complete
    assert not found.client_limited
    assert run.settings.rate == found.rate
    at_rate = [step for step in run.steps if step.settings.rate == found.rate]
    assert found.requests == sum(step.requests for step in at_rate)
    assert found.over_limit <= 0.01 * found.requests
    assert found.confidence == confidence(found.over_limit, found.requests, 0.01)
    assert list(dict.fromkeys(step.settings.rate for step in run.steps))[:2] == [12.0, 24.0]
    assert slo.ok(run)
    said = slo.text(run)
    assert said.startswith(f"p99 <= 300 ms holds up to {found.rate:.3g} requests/s (fails at {found.failing_rate:.3g})")
    assert f"{found.requests} requests are few for p99: 1000 or more judge it" in said


@pytest.mark.slow
def test_a_trial_that_cannot_meet_the_limit_any_more_is_cut_short():
    with serving(one_at_a_time(0.02)) as (url, record), session() as load:
        run = Slo.parse("p99=100ms").search(
            plan_to(url), interrupted_after(1, load), load.interrupts, 200.0, seconds=10.0
        )
    assert len(record.bodies) < 500
    assert run.interrupted
    assert (answer(run).rate, answer(run).failing_rate) == (None, 200.0)


@pytest.mark.slow
def test_a_server_that_never_answers_is_cut_off_before_the_time_out():
    with serving(answered_in(9.0)) as (url, record), session() as load:
        run = Slo.parse("p99=100ms").search(
            plan_to(url), interrupted_after(1, load), load.interrupts, 10.0, seconds=20.0
        )
    assert 0 < len(record.bodies) < 150
    assert run.served == 0
    assert run.abandoned
    assert answer(run).rate is None


@pytest.mark.slow
def test_a_limit_that_no_rate_meets_ends_at_the_lowest_one():
    with serving(answered_in(0.2)) as (url, _), session() as load:
        slo = Slo.parse("p99=100ms")
        run = slo.search(plan_to(url), load.measure, load.interrupts, 2.0, seconds=2.0, settle_s=0.0)
    found = answer(run)
    assert (found.rate, found.failing_rate, found.confidence) == (None, 0.5, None)
    assert found.complete
    assert not slo.ok(run)
    assert run.settings.rate == 0.5
    assert slo.text(run).startswith("p99 <= 100 ms holds at no rate tried: the lowest had")


def test_failed_requests_are_over_the_limit():
    def behave(exchange: Exchange) -> None:
        exchange.answer(500 if exchange.number % 2 else 200)

    with serving(behave) as (url, _), session() as load:
        run = Slo.parse("p90=9s").search(plan_to(url), interrupted_after(1, load), load.interrupts, 50.0, seconds=1.0)
    assert run.failed
    assert answer(run).over_limit == run.failed
    assert answer(run).rate is None


@pytest.mark.slow
def test_one_hiccup_is_no_limit():
    def behave(exchange: Exchange) -> None:
        time.sleep(3 if exchange.number == 5 else 0)
        exchange.answer()

    with serving(behave) as (url, _), session() as load:
        run = Slo.parse("p99=2s").search(
            plan_to(url), interrupted_after(2, load), load.interrupts, 10.0, seconds=1.0, settle_s=0.0
        )
    found = answer(run)
    assert [step.settings.rate for step in run.steps] == [10.0, 10.0]
    assert (found.rate, found.failing_rate, found.repeats, found.repeats_met) == (10.0, None, 2, 1)


@pytest.mark.slow
def test_the_client_is_named_when_it_is_the_limit():
    with serving(answered_in(0.05)) as (url, _), session() as load:
        slo = Slo.parse("p99=300ms")
        plan = plan_to(url, clients=2)
        run = slo.search(plan, load.measure, load.interrupts, 30.0, seconds=2.25, settle_s=0.0)
    found = answer(run)
    assert found.rate is not None
    assert found.rate <= 2 / 0.05 * 1.1
    assert found.client_limited
    assert "the client was the limit, not the server" in slo.text(run)
    assert "--connections" in slo.text(run)


@pytest.mark.slow
def test_a_rate_that_does_not_hold_when_it_is_repeated_is_stepped_down_from():
    """The server does 50 requests/s until it has failed once, and 30 from then on."""
    state = {"can": 50.0, "asked": 0.0}

    def behave(exchange: Exchange) -> None:
        time.sleep(0.6 if state["asked"] > state["can"] else 0)
        exchange.answer()

    with serving(behave) as (url, _), session() as load:

        def measure(plan: Plan, watch: Watch | None) -> Run:
            assert isinstance(plan.pacer, ConstantRate)
            state["asked"] = plan.pacer.rate
            run = load.measure(plan, watch)
            if run.settings.rate == 80.0:
                state["can"] = 30.0
            return run

        run = Slo.parse("p90=300ms").search(plan_to(url), measure, load.interrupts, 20.0, seconds=1.5, settle_s=0.0)
    found = answer(run)
    assert found.rate is not None
    assert found.failing_rate is not None
    assert [step.settings.rate for step in run.steps][:3] == [20.0, 40.0, 80.0]
    assert found.rate <= 30 < found.failing_rate <= 40
    assert found.repeats_met == 3
    assert found.complete


@pytest.mark.slow
def test_ctrl_c_gives_the_rate_found_so_far():
    with serving() as (url, _), session() as load:
        slo = Slo.parse("p50=1s")
        run = slo.search(plan_to(url), interrupted_after(2, load), load.interrupts, 10.0, seconds=1.0)
    found = answer(run)
    assert run.interrupted
    assert (found.rate, found.failing_rate, found.complete) == (20.0, None, False)
    assert "the search ended early, after 2 trials: interrupted" in found.doubts
    assert "20 requests/s was tried once, not 3 times" in found.doubts
    assert not slo.ok(run)


@pytest.mark.slow
def test_ctrl_c_within_the_first_trial_leaves_no_rate():
    def behave(exchange: Exchange) -> None:
        if exchange.number == 3:
            os.kill(os.getpid(), signal.SIGINT)
        exchange.answer()

    with serving(behave) as (url, _), session() as load:
        slo = Slo.parse("p99=1s")
        run = slo.search(plan_to(url), load.measure, load.interrupts, 10.0, seconds=5.0)
    assert run.interrupted
    assert len(run.steps) == 1
    assert answer(run).rate is None
    assert "no trial came to its end" in slo.text(run)


@pytest.mark.slow
def test_a_server_that_goes_away_between_trials_leaves_what_is_known():
    with session() as load, ExitStack() as stack:
        url, _ = stack.enter_context(serving())

        def measure_then_close(plan: Plan, watch: Watch | None) -> Run:
            run = load.measure(plan, watch)
            stack.close()
            return run

        slo = Slo.parse("p50=1s")
        run = slo.search(plan_to(url), measure_then_close, load.interrupts, 10.0, seconds=1.0, settle_s=0.0)
    assert answer(run).rate == 10.0
    assert not run.interrupted
    assert "cannot be reached" in slo.text(run)
    assert not slo.ok(run)


@pytest.mark.slow
def test_short_trials_say_what_they_cannot_tell():
    with serving() as (url, _), session() as load:
        run = Slo.parse("p50=1s").search(plan_to(url), interrupted_after(1, load), load.interrupts, 10.0, seconds=2.0)
    assert any(
        "an overload of less than 50% does not show" in doubt and "-i 20" in doubt for doubt in answer(run).doubts
    )


@pytest.mark.slow
def test_poisson_arrivals_differ_between_trials_at_one_rate():
    with serving() as (url, _), session() as load:
        sent: list[Plan] = []

        def measure(plan: Plan, watch: Watch | None) -> Run:
            sent.append(plan)
            if len(sent) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return load.measure(plan, watch)

        plan = plan_to(url, PoissonRate(1.0, 1.0, warmup_s=0.5, seed=7))
        Slo.parse("p50=1s").search(plan, measure, load.interrupts, 10.0, seconds=1.0, settle_s=0.0)
    assert [each.pacer for each in sent] == [
        PoissonRate(10.0, 1.0, 0.5, seed=7),
        PoissonRate(20.0, 1.0, 0.5, seed=8),
    ]


@pytest.mark.slow
def test_the_answer_is_part_of_the_document(tmp_path):
    with serving() as (url, _), session() as load:
        plan = plan_to(url, ConstantRate(1.0, 1.0))
        run = Slo.parse("p50=1s").search(plan, interrupted_after(1, load), load.interrupts, 10.0, seconds=1.0)
    (tmp_path / "run.json").write_bytes(to_json(run))
    assert read(tmp_path / "run.json").slo == run.slo
