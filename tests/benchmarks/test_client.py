import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="Debian's nginx-light is not installed")
needs_hey = pytest.mark.skipif(shutil.which("hey") is None, reason="Debian's hey is not installed")
SHORT = ("--rounds", "1", "--seconds", "1")


@dataclass
class Run:
    code: int
    out: str
    err: str
    figures: dict[str, Any]


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., Run]:
    """The command, as scripts/bench runs it once its environment is there."""

    def run(*options: str, **environment: str) -> Run:
        file = tmp_path / "client.json"
        done = subprocess.run(
            [sys.executable, str(BENCHMARKS / "client.py"), *options, "--json", str(file)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr, json.loads(file.read_text()) if file.exists() else {})

    return run


@needs_nginx
@needs_hey
def test_the_ratio_is_of_the_two_turns_of_a_round(measure):
    run = measure("--case", "light", "--peer", "hey", *SHORT)
    assert run.code == 0, run.err
    light = run.figures["cases"]["light"]
    ours, hey = (light["contestants"][name]["turns"] for name in ("visionserve", "hey"))
    assert len(ours) == len(hey) == 1
    assert min(*ours, *hey) > 0
    assert light["ratios"]["hey"] == [ours[0] / hey[0]]
    verdict = re.search(r"visionserve / hey: ([\d.]+) .*, due at least 0.5: (met|NOT MET)", run.out)
    assert verdict, run.out
    assert verdict[1] == f"{ours[0] / hey[0]:.3f}"
    assert (verdict[2] == "met") == (ours[0] / hey[0] >= 0.5)


@needs_nginx
def test_the_body_is_about_60_kilobytes_and_every_peer_left_out_is_named_as_not_measured(measure):
    run = measure("--case", "light", "--no-peers", *SHORT)
    assert run.code == 0, run.err
    assert 58_000 <= run.figures["body_bytes"] <= 62_000
    assert f"body: {run.figures['body_bytes']} bytes" in run.out
    assert run.figures["cases"]["light"]["contestants"]["visionserve"]["failure"] is None
    for name, due in (("hey", "0.5"), ("locust", "2.5"), ("plain", "5")):
        assert f"visionserve / {name}: not measured, due at least {due}" in run.out


@needs_nginx
def test_a_generator_with_one_failed_request_is_void(measure, tmp_path):
    fake_hey = tmp_path / "bin" / "hey"
    fake_hey.parent.mkdir()
    fake_hey.write_text("#!/bin/sh\necho '  [200] 99 responses'\necho '  [503] 1 responses'\n")
    fake_hey.chmod(0o755)
    path = f"{fake_hey.parent}{os.pathsep}{os.environ['PATH']}"
    run = measure("--case", "light", "--peer", "hey", *SHORT, PATH=path)
    assert run.code == 0, run.err
    assert "hey counted answers by status as {200: 99, 503: 1}" in run.out
    assert run.figures["cases"]["light"]["contestants"]["hey"]["turns"] == []
    assert "visionserve / hey: not measured" in run.out


@pytest.mark.skipif(NGINX is not None, reason="nginx is installed")
def test_without_nginx_one_sentence_says_what_to_install(measure):
    run = measure("--case", "light")
    assert run.code == 3
    assert (
        run.err
        == "Error: nginx is not installed; install the package nginx-light (sudo apt-get install nginx-light).\n"
    )


def test_a_server_that_waits_50_ms_is_measured_each_round(measure):
    run = measure("--case", "steady", "--rounds", "2", "--seconds", "1")
    assert run.code == 0, run.err
    rates = run.figures["cases"]["steady"]["inferences_per_s"]
    # Eight connections, each answered after 50 ms at the earliest.
    assert len(rates) == 2
    assert all(0 < rate <= 160 for rate in rates)
    verdict = re.search(r"max / min: ([\d.]+) .*, due at most 1.03: (met|NOT MET)", run.out)
    assert verdict, run.out
    assert verdict[1] == f"{max(rates) / min(rates):.3f}"


def test_memory_is_told_after_few_and_after_all_latencies(measure):
    run = measure("--case", "memory", "--latencies", "200000")
    assert run.code == 0, run.err
    resident = run.figures["cases"]["memory"]["resident_mib"]
    assert set(resident) == {"100000", "200000"}
    ratio = resident["200000"] / resident["100000"]
    assert f"after 200,000 / after 100,000: {ratio:.3f}" in run.out


# The server of `light`, asked by hand: half of a body, the rest of it, once more, and a body of another length.
ASK = """
import http.client, json, sys, urllib.parse
from clients.nginx import answering
with answering(sys.argv[1], 60_000) as url:
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    connection.putrequest("POST", address.path)
    connection.putheader("content-length", "60000")
    connection.endheaders(b"x" * 30_000)
    connection.sock.settimeout(0.5)
    try:
        connection.sock.recv(1)
        early = True
    except TimeoutError:
        early = False
    connection.sock.settimeout(30)
    used = connection.sock
    connection.send(b"x" * 30_000)
    answers = []
    for length in (60_000, 60_000, 50_000):
        if answers:
            connection.request("POST", address.path, b"x" * length)
        answer = connection.getresponse()
        answers.append([answer.status, answer.read().decode(), connection.sock is used])
print(json.dumps({"early": early, "answers": answers}))
"""


@needs_nginx
def test_the_server_answers_at_once_but_not_before_it_has_the_whole_body_and_keeps_the_connection():
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(NGINX)],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    labels = '[["a","b","c","d","e"]]'
    assert not said["early"]
    assert said["answers"][:2] == [[200, labels, True], [200, labels, True]]
    assert said["answers"][2][0] == 400
