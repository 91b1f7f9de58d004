import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from tests.conftest import REPOSITORY, free_port, wait_for

pytestmark = pytest.mark.slow
VISIONSERVE = [sys.executable, "-m", "visionserve.cli"]


def listening(pid: int) -> set[tuple[str, int]]:
    """Where a process and its children listen, on TCP."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    found = []
    for member in family:
        # What a program starts and ends as it is set up.
        with suppress(psutil.NoSuchProcess):
            found += member.net_connections("tcp")
    places = [connection.laddr for connection in found if connection.status == psutil.CONN_LISTEN]
    # gRPC takes IPv4 on a socket of IPv6.
    return {(place.ip.removeprefix("::ffff:"), place.port) for place in places}


@pytest.mark.parametrize("command", ["rest", "function", "model-server"])
def test_a_server_listens_on_this_machine_alone_unless_told_otherwise(command, tmp_path):
    ports = {free_port()}
    options = ["--port", str(*ports)]
    if command == "model-server":
        model = tmp_path / "resnet50" / "1"
        model.mkdir(parents=True)
        ports.add(rest := free_port())
        options += ["--rest-port", str(rest), "--engine", "null", "--model", f"resnet50={model.parent}"]
    variables = {**os.environ, "REST_ENGINE": "null", "ENGINE": "null", "HOST": "0.0.0.0", "REST_HOST": ""}
    with subprocess.Popen(
        [*VISIONSERVE, command, *options],
        cwd=REPOSITORY,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            wait_for(lambda: process.poll() is not None or len(listening(process.pid)) >= len(ports))
            assert process.poll() is None, process.stdout.read()
            assert listening(process.pid) == {("127.0.0.1", port) for port in ports}
        finally:
            process.send_signal(signal.SIGTERM)
