import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.bench.servers import serving


@pytest.fixture
def image_host(tmp_path: Path) -> Iterator[str]:
    """Serves the test's own folder over HTTP."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def assert_refused(run, *words: str) -> None:
    """Exit 2, and one sentence on stderr that has these words."""
    assert run.code == 2, run.out + run.err
    assert run.out == ""
    assert run.err.count("\n") == 1
    assert run.err.startswith("Error: ")
    for word in words:
        assert word in run.err
    assert run.figures is None


def test_the_usage_line_and_every_option_stand_in_the_help(bench):
    done = subprocess.run(
        [sys.executable, bench.command()[1], "--help"], capture_output=True, text=True, check=True, timeout=180
    )
    assert done.stdout.startswith("Usage: throughput_test.py [OPTIONS] IMG_URL ENDPOINT\n")
    for option in ("-w, --workers", "-t, --threads", "-s, --samples", "-i, --time-based", "-b, --batch-size"):
        assert option in done.stdout
    assert "environment variables IMG_URL and ENDPOINT" in done.stdout
    assert "Example" in done.stdout


def test_both_arguments_come_from_the_environment_too(bench, photo):
    with serving() as (url, record):
        run = bench("-s", 2, IMG_URL=str(photo), ENDPOINT=url)
    assert (run.code, len(record.bodies)) == (0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["path", "relative path", "file URL", "file URL with a blank", "http"])
def test_the_image_comes_from_a_path_or_a_url(bench, photo, image_host, form):
    spaced = photo.rename(photo.with_name("my cat.jpg")) if "blank" in form else photo
    source = {
        "path": str(photo),
        "relative path": photo.name,
        "file URL": photo.as_uri(),
        "file URL with a blank": spaced.as_uri(),
        "http": f"{image_host}/{photo.name}",
    }[form]
    with serving() as (url, record):
        run = bench("-s", 1, source, url)
    assert (run.code, len(record.bodies)) == (0, 1), run.err


@pytest.mark.parametrize(
    "options",
    [
        ("-w", 0),
        ("-w", -1),
        ("-t", 0),
        ("-s", 0),
        ("-b", 0),
        ("-i", 0),
        ("-i", -5),
        ("-i", "nan"),
        ("-i", "inf"),
        ("-w", "many"),
        ("--timeout", 0),
        ("--timeout", "nan"),
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_an_option_out_of_range_is_refused_before_any_load(bench, photo, options):
    with serving() as (url, record):
        run = bench(*options, photo, url)
    assert_refused(run, options[0])
    assert record.bodies == []


def test_an_unknown_option_and_missing_arguments_are_refused(bench, photo):
    assert_refused(bench("--rats", 3, photo, "http://127.0.0.1:1/"), "--rats")
    assert_refused(bench(photo), "ENDPOINT")
    assert_refused(bench(), "IMG_URL", "--help")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-w", 0), "-w"),
        (("--rate", 5, "-t", 2), "leave out -t"),
        (("--rate", 5, "-s", 2), "with -i, not -s"),
        (("--rate", "nan"), "--rate"),
        (("--rate", 0), "--rate"),
        (("--connections", 5), "give its --rate"),
        (("--arrivals", "poisson"), "give its --rate"),
        (("--sweep", "1,2", "-t", 2), "leave out -t"),
        (("--sweep", "1,2", "--rate", 2), "leave out --rate"),
        (("--sweep", "rate=1,2", "-s", 2), "with -i, not -s"),
        (("--sweep", "1,two"), "--sweep"),
        (("--sweep", "1,2", "--slo", "p99=1s"), "ask one of them"),
        (("--slo", "p99=fast"), "--slo"),
        (("--slo", "p99=1s", "-t", 2), "leave out -t"),
        (("--accuracy",), "give its --scenario"),
        (("--scenario", "Offline", "-w", 2), "leave it out"),
        (("--scenario", "Offline", "--report", "page.html"), "leave it out"),
        (("--scenario", "Server", "--rate", 5, "--slo", "p90=1s"), "--slo p99=LIMIT"),
        (("--price", -1), "--price"),
    ],
)
def test_options_that_are_wrong_or_do_not_go_together_are_refused_before_any_load(bench, photo, options, words):
    with serving() as (url, record):
        assert_refused(bench(*options, photo, url), words)
    assert record.bodies == []


def test_a_name_with_several_addresses_is_reached_at_the_one_that_answers(bench, photo):
    with serving() as (url, record):
        run = bench("-t", 2, "-s", 2, photo, url.replace("127.0.0.1", "localhost"))
    assert run.code == 0, run.err
    assert len(record.bodies) == 4


@pytest.mark.slow
def test_an_image_host_that_redirects_to_another_host_is_refused(bench, tmp_path, photo, image_host):
    class Redirect(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            host = "localhost" if self.path == "/away.jpg" else "127.0.0.1"
            self.send_header("Location", f"{image_host.replace('127.0.0.1', host)}/{photo.name}")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with serving() as (url, record), ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as host:
        thread = threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        source = f"http://127.0.0.1:{host.server_port}"
        away, here = bench(f"{source}/away.jpg", url), bench("-s", 1, f"{source}/here.jpg", url)
        host.shutdown()
        thread.join()
    assert_refused(away, "redirects to another host")
    assert here.code == 0
    assert len(record.bodies) == 1


@pytest.mark.slow
def test_a_source_that_is_no_image_is_refused_before_any_load(bench, tmp_path, image_host, unused_port):
    (tmp_path / "notes.jpg").write_text("not an image at all")
    (tmp_path / "empty.jpg").touch()
    with serving() as (url, record):
        assert_refused(bench(tmp_path / "notes.jpg", url), "notes.jpg", "is no image")
        assert_refused(bench(tmp_path / "empty.jpg", url), "empty.jpg", "is no image")
        assert_refused(bench(tmp_path / "gone.jpg", url), "gone.jpg", "no such file")
        assert_refused(bench(tmp_path, url), str(tmp_path), "folder without an image")
        assert_refused(bench(f"{image_host}/gone.jpg", url), "gone.jpg", "404")
        assert_refused(bench(f"{image_host}/notes.jpg", url), "notes.jpg", "is no image")
        assert_refused(bench(f"http://127.0.0.1:{unused_port()}/cat.jpg", url), "does not answer")
        assert_refused(bench("ftp://127.0.0.1/cat.jpg", url), "ftp://127.0.0.1/cat.jpg")
    assert record.bodies == []


def test_an_endpoint_that_cannot_be_reached_is_refused(bench, photo, unused_port):
    port = unused_port()
    assert_refused(bench(photo, f"http://127.0.0.1:{port}/"), str(port), "refused")
    assert_refused(bench(photo, "http://no-such-host.invalid/"), "no-such-host.invalid")


@pytest.mark.parametrize(
    "endpoint", ["localhost:8888", "ftp://localhost/", "http://", "http://[::1", "", "http://h:99999/"]
)
def test_an_endpoint_that_is_no_http_url_is_refused(bench, photo, endpoint):
    assert_refused(bench(photo, endpoint), "ENDPOINT")


def test_a_json_file_that_cannot_be_written_is_refused_before_any_load(bench, photo):
    with serving() as (url, record):
        assert_refused(bench("--json", photo / "figures.json", photo, url), "figures.json")
        assert_refused(bench("--json", photo.parent, photo, url), "--json")
    assert record.bodies == []


def test_the_json_document_says_what_was_run(bench, photo, photo_bytes):
    with serving() as (url, _):
        run = bench("-w", 1, "-t", 2, "-s", 3, "-b", 4, "--timeout", 30, photo, url.replace("//", "//me:secret@"))
    assert run.figures["schema"] == "visionserve.bench/1"
    assert run.figures["settings"] == {
        "endpoint": url,
        "loop": "closed",
        "workers": 1,
        "clients": 2,
        "samples": 3,
        "seconds": None,
        "warmup_s": 0.0,
        "rate": None,
        "arrivals": None,
        "payload": "imgs",
        "batch_size": 4,
        "images": 1,
        "image_bytes": len(photo_bytes),
        "expect": None,
        "timeout_s": 30.0,
    }
    assert set(run.figures["latency_ms"]) == {"mean", "p50", "p90", "p95", "p99", "p99.9", "max"}
    assert "secret" not in run.out + run.err


def test_credentials_in_the_endpoint_go_into_the_header_and_not_into_the_path(bench, photo):
    with serving() as (url, record):
        run = bench("-s", 1, photo, url.replace("//", "//me:sec%3Aret@"))
    assert run.code == 0
    assert record.headers[0]["Authorization"] == "Basic bWU6c2VjOnJldA=="
    assert record.paths == ["/"]
