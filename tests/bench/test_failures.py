import pytest

from tests.bench.separate import separate_server
from tests.bench.servers import Exchange, answering_with, serving


def assert_failed(run, kinds: dict[str, int], requests: int) -> None:
    assert run.code == 1
    assert "Traceback" not in run.out + run.err
    assert run.figures["errors"] == kinds
    assert run.figures["failed"] == sum(kinds.values())
    assert run.figures["requests"] == requests
    assert run.figures["inferences"] == requests - sum(kinds.values())
    for kind, number in kinds.items():
        assert f"{number} {kind}" in run.row("failed")


def test_three_percent_of_status_500_are_counted_apart(bench, photo):
    def behave(exchange: Exchange) -> None:
        if exchange.number % 33 == 5:
            exchange.answer(500, b'{"error": "internal server error"}')
        else:
            exchange.answer()

    with serving(behave) as (url, record):
        run = bench("-t", 4, "-s", 25, photo, url)
    assert len(record.bodies) == 100
    assert_failed(run, {"status 500": 3}, 100)
    assert run.row("status 500") == '{"error": "internal server error"}'
    assert run.figures["connections"] == 4, "an answered connection stays open"


def test_resets_are_counted_and_the_client_connects_again(bench, photo):
    def behave(exchange: Exchange) -> None:
        exchange.reset() if exchange.number % 10 == 3 else exchange.answer()

    with serving(behave) as (url, record):
        run = bench("-t", 2, "-s", 20, photo, url)
    assert len(record.bodies) == 40, "nothing is retried"
    assert_failed(run, {"reset": 4}, 40)


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [b'[["cat"], ["cat"]]', b"[]", b'{"error": "no"}', b"cat", b"<html>ready</html>", b"", b'[["cat"', b"null"],
    ids=["too long", "too short", "no list", "no JSON", "a page", "empty", "cut off", "null"],
)
def test_a_wrong_answer_is_not_served_though_its_status_is_200(bench, photo, answer):
    def behave(exchange: Exchange) -> None:
        exchange.answer(body=answer) if exchange.number == 1 else exchange.answer()

    with serving(behave) as (url, _):
        run = bench("-s", 3, photo, url)
    assert_failed(run, {"wrong answer": 1}, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("piece", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[[", "reset"),
        (b"HTTP/1.1 200 O", "reset"),
        (b"", "reset"),
        (b"220 mail.example ESMTP ready\r\n", "wrong answer"),
    ],
    ids=["body cut off", "head cut off", "no answer", "not HTTP"],
)
def test_an_answer_that_breaks_off_is_named(bench, photo, piece, kind):
    with answering_with(piece, close=True) as url:
        run = bench("-s", 2, photo, url)
    assert_failed(run, {kind: 2}, 2)


def test_a_server_that_never_answers_runs_into_the_time_out(bench, photo):
    with answering_with() as url:
        run = bench("-s", 2, "-t", 2, "--timeout", 2, photo, url)
    assert_failed(run, {"time-out": 4}, 4)
    assert run.figures["latency_ms"]["p50"] is None
    assert "p50 -" in run.row("latency (ms)")


@pytest.mark.slow
def test_the_time_out_holds_for_the_whole_answer_however_slowly_it_drips(bench, photo):
    with answering_with(*[b"HTTP/1.1 200 OK\r\nX-Drip: "] + [b"x"] * 200, pause_s=0.1) as url:
        run = bench("-s", 1, "--timeout", 3, photo, url)
    assert_failed(run, {"time-out": 1}, 1)


def test_a_redirect_is_a_failure_and_its_target_gets_no_load(bench, photo):
    with serving() as (elsewhere, other):

        def redirect(exchange: Exchange) -> None:
            exchange.answer(307, b"", Location=elsewhere)

        with serving(redirect) as (url, record):
            run = bench("-s", 3, photo, url)
    assert_failed(run, {"status 307": 3}, 3)
    assert run.row("status 307") == f"redirects to {elsewhere}; it was not followed"
    assert (len(record.bodies), len(other.bodies)) == (3, 0)


@pytest.mark.slow
def test_an_open_loop_gives_a_dead_server_a_whole_time_out_to_come_back(bench, photo):
    with separate_server("dying") as (url, _):
        run = bench("--rate", 20, "-i", 600, "--timeout", 6, photo, url)
    assert run.code == 1
    assert run.figures["errors"]["refused"] >= 3
    assert run.figures["duration_s"] >= 6, "a closed loop gives up after 5 s"
    assert "1 worker gave up: the endpoint no longer answered" in run.rows("note")


@pytest.mark.slow
@pytest.mark.parametrize("duration", [("-s", 15), ("-i", 600)], ids=["samples", "time-based"])
def test_a_server_that_dies_ends_the_run_in_a_summary(bench, photo, duration):
    with separate_server("dying") as (url, _):
        run = bench("-t", 2, *duration, photo, url)
    assert run.code == 1
    assert run.complaints == []
    assert 9 <= run.figures["served"] <= 10
    assert run.figures["errors"]["refused"] > 0
    assert set(run.figures["errors"]) <= {"reset", "refused"}
    assert run.row("inferences") == str(run.figures["inferences"])
    if duration[0] == "-i":
        assert "1 worker gave up: the endpoint no longer answered" in run.rows("note")
