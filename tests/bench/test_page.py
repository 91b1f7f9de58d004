import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.bench.servers import Exchange, serving
from visionserve.bench.figures.document import Run, read
from visionserve.bench.load.timeline import Span
from visionserve.bench.reports import page

REPOSITORY = Path(__file__).resolve().parents[2]
MAX_BYTES = 2_000_000
HOSTILE = "</script><script>document.title = 'taken over'</script><img src=http://127.0.0.1:9/>"
# Counts the canvases, in all shadow roots, that have something painted on them.
COUNT_PAINTED = """<script>
setTimeout(() => {
  let painted = 0;
  (function walk(node) {
    for (const element of node.querySelectorAll("*")) {
      if (element.localName === "canvas" && element.width && element.height) {
        const pixels = element.getContext("2d").getImageData(0, 0, element.width, element.height).data;
        painted += pixels.some(value => value > 0);
      }
      if (element.shadowRoot) walk(element.shadowRoot);
    }
  })(document);
  document.body.append(`painted: ${painted}.`);
}, 3000);
</script></body>"""


class Document(HTMLParser):
    """The elements of a page, its text, and what stands in its scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.styles = ""
        self.title = ""
        self._within = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "style":
            self.styles += data
        elif self._within == "title":
            self.title += data
        elif self._within != "script":
            self.text += f"{data}\n"

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def sometimes_failing(exchange: Exchange) -> None:
    time.sleep(0.02 if exchange.number % 2 else 0.08)
    exchange.answer(*((500, HOSTILE.encode()) if exchange.number % 5 == 4 else ()))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What throughput_test.py --json wrote of a real server that fails now and then, in an open loop."""
    folder = tmp_path_factory.mktemp("result")
    json_file = folder / "figures.json"
    photo = folder / "photo.jpg"
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, cv2, numpy; cv2.imwrite(sys.argv[1], numpy.zeros((64, 64, 3), 'uint8'))",
            photo,
        ],
        check=True,
        timeout=180,
    )
    with serving(sometimes_failing) as (url, _):
        subprocess.run(
            [
                sys.executable,
                "throughput_test.py",
                "--rate",
                "20",
                "-i",
                "3",
                "--price",
                "0.5",
                "--json",
                json_file,
                photo,
                url,
            ],
            cwd=REPOSITORY,
            capture_output=True,
            timeout=180,
            check=False,
        )
    return json_file


@pytest.fixture
def run(result: Path) -> Run:
    return read(result)


def report(result: Path, folder: Path, *options: str) -> str:
    """The page that `visionserve compare` writes of it."""
    path = folder / "report.html"
    subprocess.run(
        [sys.executable, "-m", "visionserve.cli", "compare", result, "--report", path, *options],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        timeout=180,
    )
    return path.read_text()


def shown(figure: float) -> str:
    return f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"


def hour_long(run: Run) -> Run:
    spans = tuple(Span(second, 1, 950, 950, second % 7, 10.25, 99.125, 200.5) for second in range(3600))
    return replace(run, timeline=spans, duration_s=3600.0)


def swept(run: Run, steps: int = 12) -> Run:
    clients = range(1, steps + 1)
    return replace(run, steps=tuple(replace(run, settings=replace(run.settings, rate=10.0 * n)) for n in clients))


@pytest.mark.slow
def test_the_report_has_every_figure_setting_doubt_and_note(result, run, tmp_path):
    text = Document(report(result, tmp_path)).text
    lines = text.splitlines()
    figures = [*run.latency_ms.values(), *(run.send_lag_ms or {}).values()]
    for figure in figures:
        assert shown(figure) in lines
    for count in (run.requests, run.served, run.failed, run.inferences, run.errors["status 500"], run.connections):
        assert str(count) in lines
    assert shown(run.inferences_per_s) in text
    assert f"{run.duration_s:.2f}" in lines
    assert f"{run.cost_per_million:.2f}" in lines
    for value in (run.settings.endpoint, "open", "constant", "20", run.machine.cpu, run.machine.system, run.started):
        assert value in lines
    assert run.stability.doubts
    for sentence in (*run.stability.doubts, *run.notes, *run.errors):
        assert sentence in text
    for title in ("Throughput against latency", "Latency percentiles", "Timeline", "Latency histogram", "All figures"):
        assert title in lines


@pytest.mark.slow
def test_the_report_of_several_runs_has_their_speed_up_and_cost(run):
    twice = replace(run, inferences_per_s=2 * run.inferences_per_s, cost_per_million=run.cost_per_million / 2)
    lines = Document(page.html([("cpu", run), ("gpu", twice)])).text.splitlines()
    for cell in ("2 runs side by side", "1.00x", "2.00x", "0.50x", "cpu", "gpu"):
        assert cell in lines


@pytest.mark.slow
def test_the_steps_of_a_sweep_are_listed(run):
    lines = Document(page.html([("sweep", swept(run, 4))])).text.splitlines()
    for step in range(1, 5):
        assert f"{step}0 requests/s" in lines


@pytest.mark.slow
def test_the_report_loads_nothing(result, tmp_path):
    document = Document(report(result, tmp_path))
    assert document.count("script") > 1
    assert document.styles
    for name, attributes in document.elements:
        assert name not in ("link", "base", "iframe", "object", "embed", "img")
        assert not {"src", "href", "srcset", "data", "action"} & set(attributes)
    assert not re.search(r"url\(|@import", document.styles)
    policy = next(attributes["content"] for _, attributes in document.elements if "http-equiv" in attributes)
    # What is in the page may run; whatever that asks for, the browser does not fetch.
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"http|\*|'self'", policy)


@pytest.mark.slow
def test_the_report_stays_small(run):
    long = hour_long(run)
    with_steps = replace(long, steps=(long,) * 12)
    assert len(page.html([("hour", long)]).encode()) < MAX_BYTES
    assert len(page.html([("sweep of hours", with_steps)]).encode()) < MAX_BYTES
    assert len(page.html([(f"hour {number}", long) for number in range(20)]).encode()) < MAX_BYTES


@pytest.mark.slow
def test_texts_of_the_run_stay_text(run):
    settings = replace(run.settings, endpoint=HOSTILE)
    hostile = replace(run, settings=settings, notes=(HOSTILE,), errors={HOSTILE: 1}, error_examples={HOSTILE: HOSTILE})
    harmless = Document(page.html([("run", run), ("other", run)]))
    document = Document(page.html([(HOSTILE, hostile), ("other", run)]))
    assert document.count("script") == harmless.count("script")
    assert document.count("img") == 0
    assert HOSTILE in document.text


@pytest.mark.slow
def test_runs_without_an_answer_or_a_second_are_drawn_too(bench, photo):
    with serving(lambda exchange: exchange.answer(500, b"no")) as (url, _):
        bench("-s", 3, photo, url)
    run = read(bench.json_file)
    assert run.served == 0
    for odd in (run, replace(run, timeline=()), replace(run, steps=(run,))):
        assert "Latency histogram" in Document(page.html([("nothing", odd)])).text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed: nothing here draws the page")
def test_a_browser_draws_every_chart_without_an_error(run, tmp_path):
    html = page.html([(HOSTILE, run), ("a sweep", swept(run)), ("nothing", replace(run, timeline=()))])
    path = tmp_path / "report.html"
    path.write_text(html.replace("</body>", COUNT_PAINTED))
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=20000 --dump-dom"
    )
    done = subprocess.run(
        ["chromium", *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    drawn = Document(done.stdout)
    assert "painted: 6." in drawn.text  # three stand in the timeline
    assert drawn.title == f"Benchmark of {HOSTILE}, a sweep, nothing"
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line and "setting log level" not in line]
    assert said == []
