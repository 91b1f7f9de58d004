import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest

from tests.conftest import REPOSITORY, wait_for

RUN = """
import time
from tests.ceph import started_ceph
for ceph in started_ceph():
    print(ceph.folder, flush=True)
    time.sleep(600)
"""


@pytest.mark.usefixtures("ceph")
def test_the_daemons_end_with_a_test_run_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", RUN], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = process.stdout.readline().strip()
        daemons = psutil.Process(process.pid).children()
        assert {daemon.name() for daemon in daemons} == {"ceph-mon", "ceph-osd", "radosgw"}
        os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not any(daemon.is_running() for daemon in daemons))
    assert folder.startswith("/tmp/ceph-")
    shutil.rmtree(folder)


def test_its_ports_are_open_to_this_machine_alone(ceph):
    addresses = {
        connection.laddr.ip
        for daemon in psutil.Process().children()
        if daemon.name() in ("ceph-mon", "ceph-osd", "radosgw")
        for connection in daemon.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}
