import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import REPOSITORY, DeployedApi, post, run

pytestmark = pytest.mark.slow

COLUMNS = ("api", "env", "status", "replicas", "last update", "2xx", "4xx", "5xx", "avg latency", "endpoint")


def watching(api: DeployedApi, *arguments: str, output: int = subprocess.PIPE) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "visionserve.cortex.cli", "get", "-w", *arguments]
    environment = {**api.machine.environment, "TERM": "xterm"}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.PIPE, text=True)


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and what it said on stderr after a Ctrl-C."""
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_get_shows_a_table_with_the_columns_that_people_know(null_api: DeployedApi):
    shown = null_api.machine.cortex("get").stdout
    title = next(line for line in shown.splitlines() if line.lstrip().startswith("api"))
    assert [title.index(column) for column in COLUMNS] == sorted(title.index(column) for column in COLUMNS)
    assert "requests/s" not in title


def test_a_look_loads_nothing_of_what_runs_models(null_api: DeployedApi):
    command = [sys.executable, "-X", "importtime", "-m", "visionserve.cortex.cli", "get", "-o", "json"]
    done = run(command, env=null_api.machine.environment)
    assert json.loads(done.stdout)[0]["name"] == null_api.name
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "visionserve.cortex.store" in loaded
    assert not loaded & {"numpy", "grpc", "ovmsclient", "starlette.responses", "openvino", "tensorflow", "ray"}


def test_a_watch_that_is_piped_writes_json_lines_with_what_is_recent(null_api: DeployedApi):
    endpoint = null_api.endpoint
    process = watching(null_api, "-o", "json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())[0]
    assert first["requests_per_second"] is None
    for _ in range(5):
        post(endpoint, json={})
    # It looks whenever it is time, also between two of them.
    counted = first["requests"]["4xx"]
    while counted < first["requests"]["4xx"] + 5:
        row = json.loads(process.stdout.readline())[0]
        grown, counted = row["requests"]["4xx"] - counted, row["requests"]["4xx"]
        assert (row["requests_per_second"] > 0) == (grown > 0)
        assert grown == 0 or row["recent_latency_ms"] > 0
    assert counted == first["requests"]["4xx"] + 5
    assert interrupted(process) == (130, "")


def test_a_watch_that_is_piped_writes_plain_tables_and_ends_with_its_reader(null_api: DeployedApi):
    process = watching(null_api)
    assert process.stdout is not None
    tables = 0
    while tables < 2:
        line = process.stdout.readline()
        assert "\x1b" not in line
        tables += "requests/s" in line
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    assert process.wait(60) != 0


def test_a_watch_on_a_terminal_draws_over_what_it_has_drawn(null_api: DeployedApi):
    ours, theirs = pty.openpty()
    process = watching(null_api, null_api.name, output=theirs)
    os.close(theirs)
    read, deadline = b"", time.monotonic() + 60
    while read.count(b"curl ") < 2 and time.monotonic() < deadline:
        read += os.read(ours, 65536)
    # What is read may end amid a letter, or go on with a third drawing.
    before, first, second, *_ = read.decode(errors="replace").split("\x1b[2J")
    assert "curl " not in before
    assert null_api.name in first
    assert null_api.name in second
    assert interrupted(process) == (130, "")
    os.close(ours)
