import csv
import os
import pty
import select
import signal
import subprocess
import time
from contextlib import suppress

import pytest
from hdrh.histogram import HdrHistogram

from tests.bench.servers import Exchange, serving
from visionserve.bench.figures.document import read


@pytest.mark.slow
def test_the_histogram_in_the_document_is_what_other_tools_read(bench, photo):
    with serving() as (url, _):
        run = bench("-s", 20, photo, url)
    histogram = HdrHistogram.decode(run.figures["latency_histogram"])
    assert histogram.get_total_count() == 20
    assert histogram.get_value_at_percentile(50) / 1000 == pytest.approx(run.figures["latency_ms"]["p50"])


@pytest.mark.slow
def test_the_document_names_the_machine_and_the_time(bench, photo):
    with serving() as (url, _):
        run = bench(photo, url)
    assert run.figures["machine"]["cores"] == os.cpu_count()
    assert set(run.figures["machine"]) == {"cpu", "cores", "memory_gib", "system", "python"}
    assert run.figures["started"].endswith("+00:00")


def test_a_document_is_read_back_whole(bench, photo):
    with serving() as (url, _):
        figures = bench("--rate", 10, "-i", 1, "--price", 0.5, photo, url).figures
    run = read(bench.json_file)
    assert run.latency_ms == figures["latency_ms"]
    assert run.settings.rate == 10
    assert run.cost_per_million == figures["cost_per_million"]


@pytest.mark.slow
def test_the_price_gives_the_cost_of_a_million_inferences(bench, photo):
    with serving() as (url, _):
        run = bench("--price", 0.526, photo, url)
    per_hour = run.figures["inferences_per_s"] * 3600
    assert run.figures["cost_per_million"] == pytest.approx(0.526 / per_hour * 1_000_000)
    assert run.row("cost").endswith("per million inferences at 0.526 an hour")


@pytest.mark.slow
def test_the_csv_file_has_one_line_with_every_figure(bench, photo):
    def behave(exchange: Exchange) -> None:
        exchange.answer(500, b"no") if exchange.number == 3 else exchange.answer()

    with serving(behave) as (url, _):
        run = bench("--csv", bench.folder / "figures.csv", photo, url)
    with (bench.folder / "figures.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["endpoint"] == url
    assert int(row["requests"]) == 10
    assert row["errors"] == "1 status 500"
    assert float(row["inferences_per_s"]) == run.figures["inferences_per_s"]
    assert float(row["latency_p99_ms"]) == run.figures["latency_ms"]["p99"]


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_file_that_cannot_be_written_is_refused_before_any_load(bench, photo, option):
    (bench.folder / "file").touch()
    with serving() as (url, record):
        run = bench(option, bench.folder / "file" / "figures", photo, url)
    assert (run.code, record.bodies) == (2, [])
    assert option in run.err


@pytest.mark.slow
def test_a_terminal_sees_rate_p99_and_errors_while_the_run_goes_on(bench, photo):
    def behave(exchange: Exchange) -> None:
        time.sleep(0.05)
        exchange.answer(500, b"no") if exchange.number % 10 == 3 else exchange.answer()

    terminal, end = pty.openpty()
    with serving(behave) as (url, _):
        command = bench.command("-i", 600, photo, url)
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=end, env=bench.environment | {"TERM": "xterm"}
        )
        os.close(end)
        shown, ended = b"", False
        with suppress(OSError):  # Linux's way to say that the other end of a terminal is closed
            while select.select([terminal], [], [], 60)[0] and (piece := os.read(terminal, 4096)):
                shown += piece
                if not ended and b"inferences/s, p99" in shown and b"status 500" in shown:
                    process.send_signal(signal.SIGINT)
                    ended = True
        if not ended:
            process.kill()
        out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert b"inferences/s, p99" in shown
    assert b"status 500" in shown
    assert b"inferences/s, p99" not in out, "the summary is clean of it"


@pytest.mark.slow
def test_without_a_terminal_progress_is_a_plain_line_every_ten_seconds(bench, photo):
    def behave(exchange: Exchange) -> None:
        time.sleep(0.1)
        exchange.answer()

    began = time.monotonic()
    with serving(behave) as (url, _):
        run = bench("-i", 12, photo, url)
    lines = run.err.splitlines()
    # On a busy machine it takes longer than the 12 seconds.
    assert 1 <= len(lines) <= (time.monotonic() - began) // 10
    assert "inferences/s, p99" in lines[-1]
    assert run.complaints == []
    assert "\x1b" not in run.err
