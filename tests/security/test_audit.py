import json
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.conftest import REPOSITORY, free_port, run

AUDIT = [sys.executable, str(REPOSITORY / "scripts" / "audit"), "-s", "osv", "--osv-url"]
pytestmark = pytest.mark.slow


@contextmanager
def fake_osv(vulnerable):
    """A service that speaks OSV's protocol (POST /v1/query) and knows a vulnerability of each named package."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            package = asked["package"]
            affected = {"package": package, "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "99.0"}]}]}
            known = {"id": "PYSEC-0000-1", "summary": "made up", "affected": [affected]}
            body = json.dumps({"vulns": [known]} if package["name"] in vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            """Not to the test's output."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def test_a_vulnerability_that_a_fake_service_knows_fails(tmp_path):
    with fake_osv({"pyyaml", "numpy"}) as url:
        done = run([*AUDIT, url])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "PYSEC-0000-1, fixed in 99.0" in done.stdout
    assert "\nnumpy " in f"\n{done.stdout}"


def test_a_service_that_cannot_be_reached_or_knows_nothing_is_said_and_does_not_fail():
    with fake_osv(set()) as ignorant:
        for url in (ignorant, f"http://127.0.0.1:{free_port()}/v1/query"):
            done = run([*AUDIT, url])
            assert done.returncode == 0
            assert "NOTHING WAS AUDITED" in done.stdout
