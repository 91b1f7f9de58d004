import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.bench.mlperf import LOGS, MlperfBench, assert_refused, images_of, slow, three_at_once
from tests.bench.separate import separate_server
from tests.bench.servers import LABELS, Exchange, answering_with, serving
from tests.bench.test_interrupts import assert_nothing_left, worker_processes

pytestmark = pytest.mark.slow


@pytest.fixture
def mlperf(tmp_path: Path) -> MlperfBench:
    return MlperfBench(tmp_path)


def test_single_stream_sends_one_image_after_the_other_and_is_valid_when_it_was_long_enough(mlperf, photo):
    with serving(slow) as (url, record):
        run = mlperf("--scenario", "SingleStream", "-i", 2.5, "-s", 64, photo, url)
    assert run.code == 0, run.out + run.err
    assert run.figures["schema"] == "visionserve.bench.mlperf/1"
    assert (run.figures["samples"], run.figures["served"], run.figures["failed"]) == (len(record.bodies),) * 2 + (0,)
    assert set(images_of(record)) == {1}
    assert record.most_in_flight == 1
    assert run.figures["loadgen"]["verdict"] == "VALID"
    assert run.figures["valid"] is True
    assert run.figures["loadgen"]["result"]["90.0th percentile latency (ns)"] >= 30e6
    assert float(run.row("90.0th percentile latency").removesuffix(" ms")) >= 30
    assert run.row("result") == "VALID (LoadGen's verdict)"
    assert sorted(path.name for path in mlperf.logs.iterdir()) == LOGS
    assert "Result is : VALID" in mlperf.log("summary.txt")


def test_a_run_that_was_too_short_is_invalid_and_says_why(mlperf, photo):
    with serving(slow) as (url, _):
        run = mlperf("--scenario", "SingleStream", "-i", 0.3, "-s", 5, photo, url)
    assert run.code == 0
    assert run.figures["valid"] is False
    assert run.row("result") == "INVALID (LoadGen's verdict)"
    assert "Early stopping no" in run.row("satisfied")
    assert re.search(r"LoadGen says: Need to process at least 64 queries", run.out)
    assert "MLPerf's own rules" in run.notes


def test_multi_stream_sends_eight_images_at_once(mlperf, photo):
    with serving() as (url, record):
        run = mlperf("--scenario", "MultiStream", "-i", 0.5, "-s", 5, photo, url)
    assert run.code == 0, run.out + run.err
    assert set(images_of(record)) == {8}
    assert run.figures["samples"] == 8 * len(record.bodies)
    assert record.most_in_flight == 1
    assert "99.0th percentile latency (ns)" in run.figures["loadgen"]["result"]


def test_multi_stream_spreads_the_images_of_a_query_over_the_connections(mlperf, photo):
    with serving(three_at_once) as (url, record):
        run = mlperf("--scenario", "MultiStream", "-i", 0.5, "-s", 5, "-b", 6, "-t", 3, photo, url)
    assert run.code == 0, run.out + run.err
    assert set(images_of(record)) == {2}
    assert record.most_in_flight == 3


def test_multi_stream_sends_single_images_where_the_payload_holds_no_more(mlperf, photo):
    def behave(exchange: Exchange) -> None:
        exchange.answer(body=json.dumps(LABELS).encode())

    with serving(behave) as (url, record):
        run = mlperf("--scenario", "MultiStream", "-i", 0.3, "-s", 3, "-t", 4, "--payload", "raw", photo, url)
    assert run.code == 0, run.out + run.err
    assert run.figures["samples"] == len(record.bodies)
    assert set(record.bodies) == {photo.read_bytes()}


def test_server_schedules_queries_at_the_rate_and_judges_them_by_the_bound(mlperf, photo):
    with serving(slow) as (url, record):
        run = mlperf(
            "--scenario", "Server", "--rate", 60, "-i", 2.5, "-s", 100, "--slo", "p99=10ms", "-t", 16, photo, url
        )
    assert run.code == 0, run.out + run.err
    assert run.figures["samples"] == len(record.bodies) >= 100
    parameters = run.figures["loadgen"]["parameters"]
    assert parameters["target_qps"] == 60
    assert parameters["target_latency (ns)"] == 10e6
    assert run.figures["loadgen"]["checks"]["Performance constraints"] == "NO"
    assert run.figures["valid"] is False
    assert "Reduce target QPS" in run.out
    assert run.row("latency bound") == "10.0 ms"
    assert float(run.row("Scheduled samples per second")) > 0


def test_server_counts_the_wait_for_a_connection_and_says_so(mlperf, photo):
    with serving(slow) as (url, record):
        run = mlperf("--scenario", "Server", "--rate", 80, "-i", 1, "-s", 40, "-t", 1, photo, url)
    assert record.most_in_flight == 1
    assert run.figures["waited_for_connection"] > 0
    assert "queries waited" in run.out
    # A single connection serves 33 images/s at best: of 80 that arrive in a second, the last ones wait long.
    assert run.figures["loadgen"]["statistics"]["Max latency (ns)"] > 200e6


def test_offline_spreads_one_query_over_all_connections_several_images_a_request(mlperf, photo):
    with serving(three_at_once) as (url, record):
        run = mlperf("--scenario", "Offline", "--rate", 100, "-i", 1, "-s", 30, "-b", 4, "-t", 3, photo, url)
    assert run.code == 0, run.out + run.err
    assert run.figures["samples"] == sum(images_of(record)) == 110, "10 % more than a second at this rate has"
    assert set(images_of(record)) == {4, 110 % 4}
    assert record.most_in_flight == 3
    assert run.figures["loadgen"]["result"]["Samples per second"] > 0
    assert "--rate" in run.notes or run.figures["valid"]


def test_failed_samples_are_counted_by_kind_and_make_the_result_invalid_whatever_loadgen_says(mlperf, photo):
    def behave(exchange: Exchange) -> None:
        kind = exchange.number % 25
        if kind == 3:
            exchange.answer(500, b'{"error": "internal server error"}')
        elif kind == 7:
            exchange.reset()
        elif kind == 11:
            exchange.answer(body=b"[]")
        else:
            exchange.answer()

    with serving(behave) as (url, record):
        run = mlperf("--scenario", "SingleStream", "-i", 1, "-s", 100, photo, url)
    numbers = range(len(record.bodies))
    truth = {
        "status 500": sum(number % 25 == 3 for number in numbers),
        "reset": sum(number % 25 == 7 for number in numbers),
        "wrong answer": sum(number % 25 == 11 for number in numbers),
    }
    assert run.code == 1
    assert run.figures["errors"] == truth
    assert run.figures["failed"] == sum(truth.values()) >= 12
    assert run.figures["served"] == len(record.bodies) - sum(truth.values())
    assert run.figures["loadgen"]["verdict"] == "VALID", "LoadGen sees only times"
    assert run.figures["valid"] is False
    assert run.row("result").startswith(f"INVALID: {sum(truth.values())} samples not served")
    assert "not a result" in run.row("90.0th percentile latency")
    assert run.row("status 500") == '{"error": "internal server error"}'


def test_an_unexpected_label_is_a_wrong_answer(mlperf, photo):
    with serving() as (url, _):
        run = mlperf("--scenario", "SingleStream", "-i", 0.2, "-s", 5, "--expect", "teapot", photo, url)
    assert run.code == 1
    assert set(run.figures["errors"]) == {"wrong answer"}
    assert run.figures["served"] == 0


def test_a_server_that_never_answers_is_given_up(mlperf, photo):
    with answering_with() as url:
        run = mlperf("--scenario", "Offline", "-i", 1, "-s", 500, "-t", 2, "--timeout", 2, photo, url)
    assert run.code == 1
    assert run.complaints == []
    assert run.figures["gave_up"] is True
    assert run.figures["errors"]["time-out"] >= 2
    assert run.figures["failed"] == run.figures["samples"] == 500
    assert run.figures["not_sent"] > 450


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["SingleStream", "Server", "Offline"])
def test_a_server_that_dies_ends_the_run_in_a_summary(mlperf, photo, scenario):
    options = {"Server": ("--rate", 50), "Offline": ("--rate", 50)}.get(scenario, ())
    seconds = 20 if scenario == "Offline" else 600
    with separate_server("dying") as (url, _):
        run = mlperf("--scenario", scenario, "-i", seconds, "-s", 100, *options, "--timeout", 5, photo, url)
    assert run.code == 1
    assert run.complaints == []
    assert run.figures["gave_up"] is True
    assert run.figures["errors"]["refused"] > 0
    assert run.row("result").startswith("INVALID")
    assert "no longer answered" in run.notes
    assert (mlperf.logs / LOGS[1]).stat().st_size > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_loadgen_and_leaves_its_logs(mlperf, photo, number):
    with serving(slow) as (url, record):
        process = mlperf.start("--scenario", "SingleStream", photo, url)
        # In three seconds and more, of which it tells every one.
        record.wait_for(100)
        os.killpg(process.pid, number)
        run = mlperf.finish(process)
        assert_nothing_left(process.pid)
    assert run.code == 130
    assert run.complaints == []
    assert run.figures["interrupted"] is True
    assert run.figures["loadgen"] is None
    assert 0 < run.figures["served"] <= len(record.bodies)
    assert "interrupted; " in run.notes
    assert sorted(path.name for path in mlperf.logs.iterdir()) == LOGS
    assert "loadgen_version" in mlperf.log("detail.txt")


def test_a_loadgen_that_dies_ends_the_run_in_one_sentence(mlperf, photo):
    with serving(slow) as (url, record):
        process = mlperf.start("--scenario", "SingleStream", photo, url)
        record.wait_for(10)
        [driver] = worker_processes(process.pid)
        driver.kill()
        run = mlperf.finish(process)
        assert_nothing_left(process.pid)
    assert run.code == 1
    assert run.complaints == [
        "Error: LoadGen's process ended before its test was over (killed by SIGKILL): run it again."
    ]


def test_loadgen_ends_when_its_parent_is_killed(mlperf, photo):
    with serving(slow) as (url, record):
        process = mlperf.start("--scenario", "SingleStream", photo, url)
        record.wait_for(10)
        process.kill()
        process.communicate()
        assert_nothing_left(process.pid)


def test_without_loadgen_the_way_to_install_it_is_named(mlperf, photo, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['mlperf_loadgen'] = None\n")
    with serving() as (url, record):
        run = mlperf("--scenario", "SingleStream", photo, url, PYTHONPATH=str(tmp_path))
    assert run.code == 3
    assert run.err.count("\n") == 1
    assert "pip install mlcommons-loadgen" in run.err
    assert record.bodies == []


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("SingleStream", "-t", 2), "-t"),
        (("SingleStream", "-b", 2), "-b"),
        (("Server", "-b", 2, "--rate", 5), "-b"),
        (("Server",), "--rate"),
        (("SingleStream", "--rate", 5), "--rate"),
        (("MultiStream", "--rate", 5), "--rate"),
        (("Offline", "--slo", "p99=10ms"), "--slo"),
        (("Offline", "-b", 2, "--payload", "img"), "-b"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_an_option_that_the_scenario_does_not_have_is_refused(mlperf, photo, options, word):
    with serving() as (url, record):
        assert_refused(mlperf("--scenario", *options, photo, url), word)
    assert record.bodies == []


def test_an_endpoint_that_cannot_be_reached_is_refused(mlperf, photo, unused_port):
    port = unused_port()
    assert_refused(mlperf("--scenario", "Offline", photo, f"http://127.0.0.1:{port}/"), str(port), "refused")


def test_a_log_folder_that_cannot_be_made_is_refused(mlperf, photo):
    with serving() as (url, record):
        run = mlperf("--mlperf-log", photo / "logs", "--scenario", "Offline", photo, url)
    assert_refused(run, "--mlperf-log", "logs", "cannot be made")
    assert record.bodies == []
