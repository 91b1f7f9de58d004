import os
import signal
import time
from contextlib import ExitStack

import pytest

from tests.bench.loads import plan_to, session, so_many_at_a_time
from tests.bench.servers import Exchange, serving
from visionserve.bench.figures.document import Run
from visionserve.bench.load.pacing import ConstantRate, FixedCount, PoissonRate, UntilDeadline
from visionserve.bench.load.plan import Plan
from visionserve.bench.load.run import Watch
from visionserve.bench.searches.sweep import Sweep
from visionserve.errors import UsageError

pytestmark = pytest.mark.timing


def test_a_list_of_numbers_is_clients_and_rates_are_named():
    assert Sweep.parse("1,2, 16") == Sweep("clients", (1, 2, 16))
    assert Sweep.parse("rate=0.5,20") == Sweep("rate", (0.5, 20.0))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ",",
            "1,,2",
            "1,2,",
            "0",
            "-1",
            "1.5",
            "two",
            "nan",
            "1,2,1",
            "1_0",
            "\u0661",
            "65536",
            "9" * 5000,
            "1 2",
        ),
        *("rate=", "rate=0", "rate=-5", "rate=nan", "rate=inf", "rate=1e400", "rate=5,5.0", "rate=x", "rate=2000000"),
        *("pace=1,2", "=1", "rate=rate=1", ",".join(map(str, range(1, 1002)))),
    ],
)
def test_what_is_no_sweep_is_refused_in_one_sentence(text: str):
    with pytest.raises(UsageError) as refused:
        Sweep.parse(text)
    assert str(refused.value).startswith("--sweep")
    assert str(refused.value).endswith(".")


@pytest.mark.slow
def test_throughput_flattens_where_the_server_does():
    with serving(so_many_at_a_time(3, 0.1)) as (url, record), session() as load:
        sweep = Sweep.parse("1,3,6,9")
        run = sweep.run(plan_to(url, UntilDeadline(3.0)), load.measure)
        assert record.most_in_flight == 9
    assert [step.settings.clients for step in run.steps] == [1, 3, 6, 9]
    assert all(step.steps == () for step in run.steps)
    one, *limited = [step.requests_per_s for step in run.steps]
    assert one == pytest.approx(10, rel=0.15)
    assert limited == pytest.approx([30, 30, 30], rel=0.15)
    assert run.inferences_per_s == max(step.inferences_per_s for step in run.steps)
    assert sweep.ok(run)


@pytest.mark.slow
def test_the_table_shows_each_step_the_best_one_and_the_knee():
    with serving(so_many_at_a_time(1, 0.05)) as (url, _), session() as load:
        sweep = Sweep.parse("rate=5,10,40")
        run = sweep.run(plan_to(url, ConstantRate(1.0, 2.0)), load.measure)
    head, *rows, knee = sweep.table(run).splitlines()
    assert head.split() == ["rate", "requests/s", "inferences/s", "p50", "ms", "p99", "ms", "errors", "trusted"]
    assert [row.split()[0] for row in rows] == ["5", "10", "40"]
    assert [row.endswith("<- best") for row in rows] == [False, False, True]
    assert [float(row.split()[1]) for row in rows] == pytest.approx([5, 10, 20], rel=0.15)
    assert knee == "Throughput still grows at 40 requests/s, the most that was tried."


@pytest.mark.slow
def test_the_knee_is_the_least_load_that_gives_all_the_throughput_there_is():
    with serving(so_many_at_a_time(2, 0.1)) as (url, _), session() as load:
        # With more clients than it takes at a time the server has no pause, whatever a busy machine does to them.
        sweep = Sweep.parse("16,1,8")
        run = sweep.run(plan_to(url, FixedCount(5)), load.measure)
    *_, knee = sweep.table(run).splitlines()
    assert knee.startswith("Throughput stops growing at 8 clients:")


@pytest.mark.slow
def test_rates_keep_their_arrivals_seconds_and_warm_up():
    with serving() as (url, _), session() as load:
        run = Sweep.parse("rate=10,20").run(plan_to(url, PoissonRate(1.0, 1.0, warmup_s=0.5)), load.measure)
    settings = [step.settings for step in run.steps]
    assert [(each.rate, each.arrivals, each.seconds, each.warmup_s) for each in settings] == [
        (10.0, "poisson", 1.0, 0.5),
        (20.0, "poisson", 1.0, 0.5),
    ]


def test_rates_need_to_know_for_how_long():
    with serving() as (url, record), session() as load, pytest.raises(UsageError, match="-i"):
        Sweep.parse("rate=10").run(plan_to(url, FixedCount(1)), load.measure)
    assert not record.bodies


@pytest.mark.slow
def test_a_faster_step_with_failures_is_not_the_best():
    def behave(exchange: Exchange) -> None:
        crowded = exchange.record.in_flight > 2
        time.sleep(0.1)
        exchange.answer(503 if crowded and exchange.number % 2 else 200)

    with serving(behave) as (url, _), session() as load:
        sweep = Sweep.parse("1,2,8")
        run = sweep.run(plan_to(url, FixedCount(20)), load.measure)
    assert run.settings.clients == 2
    assert run.steps[-1].failed
    assert run.steps[-1].inferences_per_s > run.inferences_per_s
    assert not sweep.ok(run)
    assert sweep.table(run).splitlines()[3].split()[5] == str(run.steps[-1].failed)


@pytest.mark.slow
def test_ctrl_c_within_a_step_keeps_the_steps_before_it():
    def behave(exchange: Exchange) -> None:
        if exchange.number == 6:
            os.kill(os.getpid(), signal.SIGINT)
        if exchange.number < 6:
            exchange.answer()
        else:
            exchange.connection.recv(1)

    with serving(behave) as (url, _), session() as load:
        sweep = Sweep.parse("1,2,4")
        run = sweep.run(plan_to(url, FixedCount(4)), load.measure)
    assert run.interrupted
    assert [step.interrupted for step in run.steps] == [False, True]
    assert run.settings.clients == 1
    assert "the sweep ended after 2 of 3 steps: interrupted" in run.notes
    assert "cut off" in sweep.table(run)
    assert not sweep.ok(run)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_two_steps_keeps_what_was_measured(number: signal.Signals):
    with serving() as (url, _), session() as load:

        def measure_then_interrupt(plan: Plan, watch: Watch | None) -> Run:
            run = load.measure(plan, watch)
            os.kill(os.getpid(), number)
            return run

        run = Sweep.parse("1,2").run(plan_to(url, FixedCount(2)), measure_then_interrupt)
    assert run.interrupted
    assert len(run.steps) == 1


@pytest.mark.slow
def test_a_server_that_goes_away_between_two_steps_leaves_the_steps_before_it():
    with session() as load, ExitStack() as stack:
        url, _ = stack.enter_context(serving())

        def measure_then_close(plan: Plan, watch: Watch | None) -> Run:
            run = load.measure(plan, watch)
            stack.close()
            return run

        sweep = Sweep.parse("1,2,4")
        run = sweep.run(plan_to(url, FixedCount(2)), measure_then_close)
    assert len(run.steps) == 1
    assert not run.interrupted
    assert "cannot be reached (refused" in run.notes[-1]
    assert not sweep.ok(run)


def test_a_server_that_is_not_there_is_refused_as_for_a_single_run(unused_port):
    with session() as load, pytest.raises(UsageError, match="cannot be reached"):
        Sweep.parse("1,2").run(plan_to(f"http://127.0.0.1:{unused_port()}/", FixedCount(1)), load.measure)
