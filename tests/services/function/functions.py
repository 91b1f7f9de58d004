import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.ceph import Ceph
from tests.conftest import REPOSITORY, free_port, wait_for

COMMAND = [sys.executable, "-m", "visionserve.cli", "function"]
# The kernel then kills it with the test run, however that ends.
WITH_THIS_PROCESS = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
BUCKET = "photos"


class RunningFunction:
    """`visionserve function` in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        wait_for(self._answers)

    def get(self, path: str = "/", **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=60, **options)

    def post(self, json: object = None, **options: Any) -> requests.Response:
        return requests.post(self.url, json=json, timeout=60, **options)

    def log(self) -> str:
        return self._log.read_text()

    def connections(self) -> "list[psutil._common.pconn]":
        """Those that it has to others; not the one it listens on, nor those that were made to it."""
        own = psutil.Process(self.process.pid).net_connections("inet")
        listening = {connection.laddr for connection in own if connection.status == psutil.CONN_LISTEN}
        return [connection for connection in own if connection.laddr not in listening]

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return self.get("/health/liveness").status_code > 0
        except requests.ConnectionError:
            return False


@contextmanager
def running_function(
    command: Sequence[str] = COMMAND, folder: Path = REPOSITORY, **environment: object
) -> Iterator[RunningFunction]:
    """It is alive, its model may still be loading; it must end well on SIGTERM. `command` is run in `folder`."""
    port = int(str(environment.get("PORT", free_port())))
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))}
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            [*WITH_THIS_PROCESS, *command],
            cwd=folder,
            env={**variables, "PORT": str(port), **{name: str(value) for name, value in environment.items()}},
            stdout=log,
            stderr=log,
        )
        with process:
            try:
                yield RunningFunction(process, port, Path(log.name))
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(60) == 0
            finally:
                process.kill()


def s3_environment(ceph: Ceph, **others: object) -> dict[str, object]:
    return {
        "S3_ENABLED": "true",
        "S3_ENDPOINT_URL": ceph.endpoint,
        "S3_ACCESS_KEY": ceph.access_key,
        "S3_SECRET_KEY": ceph.secret_key,
        "S3_BUCKET_NAME": BUCKET,
        **others,
    }


def record(key: str, bucket: str = BUCKET, name: str = "ObjectCreated:Put", source: str = "ceph:s3") -> dict[str, Any]:
    """As Ceph writes one; the key as the source encodes it."""
    return {
        "eventVersion": "2.2",
        "eventSource": source,
        "awsRegion": "",
        "eventTime": "2026-11-21T12:00:00.000000Z",
        "eventName": name,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "eTag": "", "versionId": ""}},
    }


def notification(*records: dict[str, Any]) -> dict[str, Any]:
    return {"Records": list(records)}
