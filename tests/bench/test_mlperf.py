import base64
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.bench.conftest import Bench, Run
from tests.bench.separate import separate_server
from tests.bench.servers import LABELS, Exchange, answering_with, serving
from tests.bench.test_interrupts import assert_nothing_left
from tests.photos import crops, encoded

pytestmark = pytest.mark.slow

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
LOGS = ["mlperf_log_accuracy.json", "mlperf_log_detail.txt", "mlperf_log_summary.txt", "mlperf_log_trace.json"]


class MlperfBench(Bench):
    """The command through LoadGen, which leaves its logs in `logs`."""

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def command(self, *arguments: object) -> list[str]:
        return super().command("--mlperf-log", self.logs, *arguments)

    def log(self, name: str) -> str:
        return (self.logs / f"mlperf_log_{name}").read_text()


@pytest.fixture
def mlperf(tmp_path: Path) -> MlperfBench:
    return MlperfBench(tmp_path)


def slow(exchange: Exchange) -> None:
    time.sleep(0.03)
    exchange.answer()


def images_of(record) -> list[int]:
    """The number of images of each request."""
    return [len(json.loads(body)["imgs"]) for body in record.bodies]


def assert_refused(run: Run, *words: str) -> None:
    assert run.code == 2, run.out + run.err
    assert run.err.count("\n") == 1
    assert run.figures is None
    for word in words:
        assert word in run.err


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
    assert "MLPerf's own rules" in run.row("note")


def test_multi_stream_sends_eight_images_at_once(mlperf, photo):
    with serving() as (url, record):
        run = mlperf("--scenario", "MultiStream", "-i", 0.5, "-s", 5, photo, url)
    assert run.code == 0, run.out + run.err
    assert set(images_of(record)) == {8}
    assert run.figures["samples"] == 8 * len(record.bodies)
    assert record.most_in_flight == 1
    assert "99.0th percentile latency (ns)" in run.figures["loadgen"]["result"]


def test_multi_stream_spreads_the_images_of_a_query_over_the_connections(mlperf, photo):
    with serving(slow) as (url, record):
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
    with serving(slow) as (url, record):
        run = mlperf("--scenario", "Offline", "--rate", 100, "-i", 1, "-s", 30, "-b", 4, "-t", 3, photo, url)
    assert run.code == 0, run.out + run.err
    assert run.figures["samples"] == sum(images_of(record)) == 110, "10 % more than a second at this rate has"
    assert set(images_of(record)) == {4, 110 % 4}
    assert record.most_in_flight == 3
    assert run.figures["loadgen"]["result"]["Samples per second"] > 0
    assert "--rate" in run.row("note") or run.figures["valid"]


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
        run = mlperf("--scenario", "Offline", "-i", 1, "-s", 500, "-t", 2, "--timeout", 0.5, photo, url)
    assert run.code == 1
    assert run.err == ""
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
        run = mlperf("--scenario", scenario, "-i", seconds, "-s", 100, *options, "--timeout", 2, photo, url)
    assert run.code == 1
    assert run.err == ""
    assert run.figures["gave_up"] is True
    assert run.figures["errors"]["refused"] > 0
    assert run.row("result").startswith("INVALID")
    assert "no longer answered" in run.row("note")
    assert (mlperf.logs / LOGS[1]).stat().st_size > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_loadgen_and_leaves_its_logs(mlperf, photo, number):
    with serving(slow) as (url, record):
        process = mlperf.start("--scenario", "SingleStream", photo, url)
        record.wait_for(50)
        os.killpg(process.pid, number)
        run = mlperf.finish(process)
        assert_nothing_left(process.pid)
    assert run.code == 130
    assert run.err == ""
    assert run.figures["interrupted"] is True
    assert run.figures["loadgen"] is None
    assert 0 < run.figures["served"] <= len(record.bodies)
    assert run.row("note").startswith("interrupted; ")
    assert sorted(path.name for path in mlperf.logs.iterdir()) == LOGS
    assert "loadgen_version" in mlperf.log("detail.txt")


def test_a_loadgen_that_dies_ends_the_run_in_one_sentence(mlperf, photo):
    with serving(slow) as (url, record):
        process = mlperf.start("--scenario", "SingleStream", photo, url)
        record.wait_for(10)
        drivers = [
            child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
        ]
        drivers[0].kill()
        run = mlperf.finish(process)
        assert_nothing_left(process.pid)
    assert run.code == 1
    assert run.err == ("Error: LoadGen's process ended before its test was over (killed by SIGKILL): run it again.\n")


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


# --- accuracy


ANSWERS = {
    "right": ["tabby", "lynx", "tiger_cat", "teapot", "vase"],
    "among five": ["lynx", "vase", "tabby", "teapot", "cup"],
    "sixth": ["lynx", "vase", "cup", "teapot", "plate", "tabby"],
    "wrong": ["lynx", "vase", "cup", "teapot", "plate"],
}
KINDS = ("right", "right", "right", "among five", "among five", "sixth", "wrong")


def pictures(count: int) -> list[bytes]:
    return [encoded(square[:48, :48]) for square in crops(count)]


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    """A folder of seven pictures, all of them labeled tabby."""
    folder = tmp_path / "photos" / "tabby"
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures(len(KINDS))):
        (folder / f"my cat {number}.png").write_bytes(picture)
    return folder.parent


def by_content(pictures: list[bytes], answers: list[object]) -> Callable[[Exchange], None]:
    """Answers each image by what is in it."""
    table = {base64.b64encode(picture).decode(): answer for picture, answer in zip(pictures, answers, strict=True)}

    def behave(exchange: Exchange) -> None:
        found = [table[image] for image in json.loads(exchange.body)["imgs"]]
        exchange.answer(body=json.dumps(found).encode())

    return behave


def seven() -> Callable[[Exchange], None]:
    return by_content(pictures(len(KINDS)), [ANSWERS[kind] for kind in KINDS])


@pytest.mark.parametrize("options", [(scenario,) for scenario in SCENARIOS] + [("Offline", "-b", 3, "-t", 2)], ids=str)
def test_accuracy_counts_every_image_once_at_top_1_and_top_5(mlperf, labeled, options):
    rate = ("--rate", 100) if options[0] == "Server" else ()
    with serving(seven()) as (url, record):
        run = mlperf("--scenario", *options, "--accuracy", *rate, labeled, url)
    assert run.code == 0, run.out + run.err
    assert run.figures["accuracy"] == {
        "images": 7, "top1_correct": 3, "top5_correct": 5, "top1": 3 / 7, "top5": 5 / 7,
    }  # fmt: skip
    assert run.row("top-1") == "42.86% (3 of 7 images)"
    assert run.row("top-5") == "71.43% (5 of 7 images)"
    logged = {
        entry["qsl_idx"]: json.loads(bytes.fromhex(entry["data"])) for entry in json.loads(mlperf.log(LOGS[0][11:]))
    }
    assert [logged[index] for index in range(7)] == [ANSWERS[kind][:5] for kind in KINDS]
    assert sum(images_of(record)) == run.figures["samples"] >= 7


def test_an_image_that_fails_counts_as_wrong(mlperf, labeled):
    answers: list[object] = [ANSWERS[kind] for kind in KINDS]
    answers[0] = ["tabby", "lynx"]
    with serving(by_content(pictures(len(KINDS)), answers)) as (url, _):
        run = mlperf("--scenario", "SingleStream", "--accuracy", labeled, url)
    assert run.code == 1
    assert run.figures["errors"] == {"wrong answer": 1}
    assert "2 labels instead of 5" in run.row("wrong answer")
    assert (run.figures["accuracy"]["top1_correct"], run.figures["accuracy"]["images"]) == (2, 7)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("val_map.txt", "{} tabby"),
        ("labels.txt", "{},tabby"),
        ("labels.txt", "{}\ttabby"),
        ("labels.csv", '"{}",tabby'),
    ],
    ids=["val_map.txt", "commas", "tabs", "csv"],
)
def test_labels_come_from_a_list_in_the_folder(mlperf, labeled, name, line):
    files = sorted(path.relative_to(labeled) for path in labeled.rglob("*.png"))
    header = "file,label\n" if name.endswith("csv") else ""
    (labeled / name).write_text(header + "".join(line.format(file) + "\n" for file in files))
    with serving(seven()) as (url, _):
        run = mlperf("--scenario", "Offline", "--accuracy", labeled, url)
    assert run.code == 0, run.out + run.err
    assert run.figures["accuracy"]["top1_correct"] == 3


def test_labels_that_no_answer_has_are_pointed_out(mlperf, labeled):
    (labeled / "tabby").rename(labeled / "281")
    with serving(seven()) as (url, _):
        run = mlperf("--scenario", "Offline", "--accuracy", labeled, url)
    assert run.figures["accuracy"]["top5"] == 0
    assert "281" in run.row("note")


def test_a_folder_that_is_not_wholly_labeled_is_refused_before_any_load(mlperf, labeled, tmp_path, photo):
    accuracy = ("--scenario", "Offline", "--accuracy")
    with serving() as (url, record):
        loose = labeled / "loose.png"
        loose.write_bytes(pictures(1)[0])
        assert_refused(mlperf(*accuracy, labeled, url), "loose.png", "no label")
        loose.unlink()
        listed = labeled / "labels.csv"
        listed.write_text("tabby/my cat 0.png,tabby\n")
        assert_refused(mlperf(*accuracy, labeled, url), "my cat 1.png", "5 more", "labels.csv")
        listed.write_text("gone.png,tabby\n")
        assert_refused(mlperf(*accuracy, labeled, url), "line 1", "gone.png")
        listed.write_text("tabby\n")
        assert_refused(mlperf(*accuracy, labeled, url), "line 1", "FILE LABEL")
        listed.unlink()
        broken = labeled / "tabby" / "broken.jpg"
        broken.write_text("not an image at all")
        assert_refused(mlperf(*accuracy, labeled, url), "broken.jpg", "no image")
        broken.unlink()
        dangling = labeled / "tabby" / "dangling.jpg"
        dangling.symlink_to(tmp_path / "nowhere")
        assert_refused(mlperf(*accuracy, labeled, url), "dangling.jpg", "cannot be read")
        (tmp_path / "empty").mkdir()
        assert_refused(mlperf(*accuracy, tmp_path / "empty", url), "empty", "without an image")
        assert_refused(mlperf(*accuracy, photo, url), "chelsea.jpg", "folder")
        assert_refused(mlperf(*accuracy, "http://127.0.0.1:1/photos", url), "folder")
        dangling.unlink()
        assert_refused(mlperf(*accuracy, "--payload", "tfserving", labeled, url), "five labels")
    assert record.bodies == []


def test_an_image_that_vanishes_before_it_is_loaded_ends_the_run_in_one_sentence(mlperf, tmp_path):
    """LoadGen loads a second set of images once the first was asked for."""
    folder = tmp_path / "many" / "tabby"
    folder.mkdir(parents=True)
    picture = pictures(1)[0]
    for number in range(1030):
        (folder / f"{number:04}.png").write_bytes(picture)

    def behave(exchange: Exchange) -> None:
        if exchange.number == 0:
            for path in folder.iterdir():
                path.unlink()
        exchange.answer()

    with serving(behave) as (url, _):
        run = mlperf("--scenario", "Offline", "--accuracy", "-b", 100, folder.parent, url)
    assert run.code == 1
    assert "Traceback" not in run.err
    assert re.search(r"^Error: .*\.png cannot be read any more: .*\.$", run.err, re.MULTILINE)


@pytest.mark.slow
def test_no_more_images_are_in_memory_than_mlperf_asks_for(mlperf, tmp_path):
    folder = tmp_path / "many" / LABELS[0]
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures(50)):
        for copy in range(30):
            (folder / f"{number:02}-{copy:02}.png").write_bytes(picture)
    with serving() as (url, record):
        run = mlperf("--scenario", "Offline", "-i", 0.2, "-s", 50, "-b", 50, folder.parent, url)
        assert run.figures["loadgen"]["parameters"]["performance_sample_count"] == 1024
        record.bodies.clear()
        run = mlperf("--scenario", "Offline", "--accuracy", "-b", 50, folder.parent, url)
    assert run.code == 0, run.out + run.err
    assert sum(images_of(record)) == 1500
    assert run.figures["accuracy"]["top1_correct"] == 1500
