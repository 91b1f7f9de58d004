import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.servers import Behavior, Exchange, serving

REPOSITORY = Path(__file__).resolve().parents[2]


def answering_after(seconds: float) -> Behavior:
    def behave(exchange: Exchange) -> None:
        time.sleep(seconds)
        exchange.answer()

    return behave


@pytest.fixture
def measure(bench, photo) -> Callable[..., Path]:
    """Measures a real server, and names the file of the result."""

    def run(name: str, *options: object, behave: Behavior = Exchange.answer) -> Path:
        with serving(behave) as (url, _):
            bench(*options, photo, url)
        return bench.json_file.rename(bench.folder / name)

    return run


@pytest.fixture
def compare(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`visionserve compare`, as a user runs it in the folder of the files."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "visionserve.cli", "compare", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    return run


def figures(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())


def row(output: str, name: str) -> list[str]:
    """The cells after `name`, of the line that begins with it."""
    line = next(line for line in output.splitlines() if line.startswith(f"{name}   "))
    return [cell.strip() for cell in line.removeprefix(name).split("   ") if cell.strip()]


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit 2, and one sentence on stderr that has these words."""
    assert (done.returncode, done.stdout) == (2, ""), done.stdout + done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_runs_stand_side_by_side_with_their_speed_up_over_the_first(measure, compare):
    slow = measure("cpu.json", "-s", 5, behave=answering_after(0.3))
    fast = measure("gpu.json", "-s", 5, behave=answering_after(0.1))
    done = compare(slow, fast)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["cpu", "gpu"]
    rates = [figures(path)["inferences_per_s"] for path in (slow, fast)]
    assert row(done.stdout, "inferences/s") == [f"{rate:.2f}" for rate in rates]
    assert row(done.stdout, "speed-up") == ["1.00x", f"{rates[1] / rates[0]:.2f}x"]
    assert row(done.stdout, "p50 (ms)") == [f"{figures(path)['latency_ms']['p50']:.1f}" for path in (slow, fast)]
    assert row(done.stdout, "p99 (ms)") == [f"{figures(path)['latency_ms']['p99']:.1f}" for path in (slow, fast)]
    assert row(done.stdout, "errors") == ["0", "0"]
    assert "cost" not in done.stdout


@pytest.mark.slow
def test_what_failed_is_shown_with_its_share(measure, compare):
    def every_fourth_fails(exchange: Exchange) -> None:
        exchange.answer(503 if exchange.number % 4 == 3 else 200)

    failing = measure("failing.json", "-s", 8, behave=every_fourth_fails)
    assert row(compare(failing, measure("sound.json", "-s", 8)).stdout, "errors") == ["2 (25.00%)", "0"]


@pytest.mark.slow
def test_runs_that_are_not_to_be_trusted_or_not_of_the_same_load_are_named(measure, compare):
    done = compare(measure("one.json", "-s", 3), measure("four.json", "-s", 3, "-b", 4, "-t", 2))
    assert row(done.stdout, "batch size") == ["1", "4"]
    assert row(done.stdout, "trusted") == ["no", "no"]
    sentences = done.stdout.splitlines()
    assert "The runs were not under the same load: batch size is 1 in one; 4 in four." in sentences
    assert "The runs were not under the same load: clients is 1 in one; 2 in four." in sentences
    assert any(sentence.startswith("one is not to be trusted: too short") for sentence in sentences)
    assert any(sentence.startswith("four is not to be trusted: too few requests") for sentence in sentences)


@pytest.mark.slow
def test_the_rates_of_open_loops_are_compared_and_their_connections_are_not(measure, compare):
    done = compare(
        measure("slow.json", "--rate", 5, "-i", 1, "--connections", 8),
        measure("fast.json", "--rate", 10, "-i", 1, "--connections", 9),
    )
    assert "The runs were not under the same load: rate is 5 in slow; 10 in fast." in done.stdout
    assert "clients is" not in done.stdout


@pytest.mark.slow
def test_the_cost_comes_from_the_files_or_from_the_prices_given(measure, compare):
    cpu = measure("cpu.json", "-s", 3, "--price", 0.2)
    gpu = measure("gpu.json", "-s", 3, "--price", 0.4)

    def costs(*prices: float) -> list[float]:
        rates = [figures(path)["inferences_per_s"] for path in (cpu, gpu)]
        return [price / (rate * 3600) * 1e6 for price, rate in zip(prices, rates, strict=True)]

    for options, (first, second) in (((), costs(0.2, 0.4)), (("--price", 1, "--price", 9), costs(1, 9))):
        shown = compare(cpu, gpu, *options).stdout
        assert [float(cell) for cell in row(shown, "cost per million")] == pytest.approx([first, second], rel=0.01)
        assert row(shown, "relative cost") == ["1.00x", f"{second / first:.2f}x"]


@pytest.mark.slow
def test_files_of_the_same_name_are_told_apart_by_their_folders(measure, compare, tmp_path):
    run = measure("run.json", "-s", 2)
    paths = [tmp_path / folder / "run.json" for folder in ("cpu", "gpu")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(run.read_bytes())
    assert compare(*paths).stdout.splitlines()[0].split() == ["cpu/run", "gpu/run"]
    assert re.split(" {3,}", compare(run, run, run).stdout.splitlines()[0].strip()) == ["run", "run (2)", "run (3)"]


@pytest.mark.slow
def test_no_figure_is_cut_off_on_a_narrow_terminal(measure, compare):
    run = measure("a-run-with-a-long-name.json", "-s", 2)
    for columns in ("60", "20"):
        # FORCE_COLOR is how rich is told that its output is a terminal.
        shown = compare(run, run, run, run, FORCE_COLOR="1", COLUMNS=columns).stdout
        assert "\N{HORIZONTAL ELLIPSIS}" not in shown
        per_s = figures(run)["inferences_per_s"]
        rate = f"{per_s:.1f}" if per_s >= 10 else f"{per_s:.2f}"
        assert sum(line.count(rate) for line in shown.splitlines() if line.startswith("inferences/s")) == 4


@pytest.mark.slow
def test_names_cannot_command_the_terminal(measure, compare):
    run = measure("\x1b[31mred.json", "-s", 2)
    shown = compare(run, run)
    assert shown.returncode == 0
    assert "\x1b" not in shown.stdout
    assert "[31mred" in shown.stdout


@pytest.mark.slow
def test_wrong_use_is_one_sentence(measure, compare, tmp_path):
    run = measure("run.json", "-s", 2)
    (tmp_path / "photo.json").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "newer.json").write_text('{"schema": "visionserve.bench/9"}')
    (tmp_path / "empty.json").write_text('{"schema": "visionserve.bench/1"}')
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "garbled.json").write_text(
        json.dumps(figures(run) | {"latency_histogram": figures(run)["latency_histogram"][:-20]})
    )
    assert_refused(compare(), "two or more")
    assert_refused(compare(run), "two or more")
    assert_refused(compare(run, "gone.json"), "gone.json", "no such file")
    assert_refused(compare(run, "photo.json"), "photo.json", "JSON")
    assert_refused(compare(run, "list.json"), "list.json", "JSON")
    assert_refused(compare(run, "newer.json"), "newer.json", "visionserve.bench/9")
    assert_refused(compare(run, "empty.json"), "empty.json", "requests")
    assert_refused(compare(run, run, "--price", 1), "1 --price for 2 FILE")
    assert_refused(compare(run, "--report", "folder.html"), "folder.html", "cannot be written")
    assert_refused(compare(run, "--report", run / "report.html"), "report.html", "cannot be written")
    assert_refused(compare("garbled.json", "--report", "report.html"), "garbled", "latency_histogram")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_a_result_is_not_overwritten_by_a_report(measure, compare):
    run, other = measure("run.json", "-s", 2), measure("other.json", "-s", 2)
    before = run.read_bytes()
    assert_refused(compare("--report", run, other), "run.json", ".html")
    assert run.read_bytes() == before


def test_the_help_has_an_example_and_needs_no_heavy_library(compare):
    done = compare("--help")
    assert done.returncode == 0
    assert "visionserve compare cpu.json gpu.json" in done.stdout
    code = "import sys, visionserve.cli; print(*{'bokeh', 'hdrh', 'numpy', 'pydantic', 'rich'} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    assert loaded.stdout.split() == []
