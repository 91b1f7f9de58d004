"""The other front doors, each up for one turn and asked once whether it answers right."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psutil
import requests
from contestants import START_S, stop
from deployment import REPOSITORY, free_port
from load import LoadError, closed_loop

BOUNDARY = "visionserve-benchmark"
HANDLER = REPOSITORY / "benchmarks" / "dcf_handler.py"
POLL_S = 0.02
BUCKET = "photos"

# Seconds -> images/s.
Rate = Callable[[float], float]


class FrontDoor(Protocol):
    """`model`: the folder in models/ of what it serves; `batches`: those that the bare engine may use."""

    name: str
    title: str
    model: str
    batches: tuple[int, ...]

    @contextmanager
    def up(self, engine: str, clients: int) -> Iterator[Rate]:
        """Raises LoadError where it does not start or answers wrongly."""
        ...


class HttpDoor:
    """A command that serves; `path` is asked with `body`, or by GET where there is none."""

    model = "resnet50"
    batches = (1, 2, 4, 8)

    def __init__(
        self,
        name: str,
        title: str,
        command: list[str],
        health: str,
        path: str,
        expected: object,
        body: bytes | None = None,
        content_type: str = "application/json",
        environment: dict[str, str] | None = None,
    ) -> None:
        self.name, self.title = name, title
        self._command, self._health, self._path, self._expected = command, health, path, expected
        self._body, self._content_type = body, content_type
        self._environment = environment or {}

    @contextmanager
    def up(self, engine: str, clients: int) -> Iterator[Rate]:
        with self.started(engine) as (url, _), tempfile.NamedTemporaryFile() as file:
            file.write(self._body or b"")
            file.flush()
            body = Path(file.name) if self._body else None
            yield lambda seconds: closed_loop(url, body, clients, seconds, self._content_type).per_second

    @contextmanager
    def started(self, engine: str) -> Iterator[tuple[str, float]]:
        """The address that answers, and the seconds from the start of its process to the first right answer."""
        port = free_port()
        url = f"http://127.0.0.1:{port}{self._path}"
        command = [sys.executable, "-m", "visionserve.cli", *self._command, "--port", str(port)]
        variables = {**os.environ, "ENGINE": engine, "REST_ENGINE": engine, **self._environment}
        with tempfile.TemporaryFile() as log:
            started = time.monotonic()
            process = psutil.Popen(
                command, cwd=REPOSITORY, env=variables, stdout=log, stderr=log, start_new_session=True
            )
            try:
                while not self._ready(f"http://127.0.0.1:{port}{self._health}"):
                    if process.poll() is not None or time.monotonic() - started > START_S:
                        log.seek(0)
                        raise LoadError(f"{self.name} does not serve: {log.read().decode(errors='replace')[-500:]}")
                    time.sleep(POLL_S)
                self._check(url, engine)
                yield url, time.monotonic() - started
            finally:
                stop(process)

    def _ready(self, health: str) -> bool:
        try:
            return requests.get(health, timeout=START_S).ok
        except requests.ConnectionError:
            return False

    def costs(self, clients: int, seconds: float) -> dict[str, float]:
        """CPU ms of one request by process, without a model."""
        with self.up("null", clients) as rate:
            rate(1)
            before = cpu_seconds()
            answers = rate(seconds) * seconds
            return {name: 1000 * (spent - before[name]) / answers for name, spent in cpu_seconds().items()}

    def _check(self, url: str, engine: str) -> None:
        method = "POST" if self._body else "GET"
        headers = {"content-type": self._content_type} if self._body else {}
        answer = requests.request(method, url, data=self._body, headers=headers, timeout=START_S)
        if answer.status_code != 200 or (engine != "null" and answer.json() != self._expected):
            raise LoadError(f"{url} answered {answer.status_code} {answer.text[:200]}, not {self._expected}")


def cpu_seconds() -> dict[str, float]:
    """Of each process that this one or its children started, by its command."""
    spent = {}
    for process in psutil.Process().children(recursive=True):
        words = process.cmdline()
        name = " ".join([Path(words[0]).name, *words[1:3]])
        spent[name] = sum(process.cpu_times()[:2])
    return spent


class HandlerDoor:
    """DCF's Handler in a process of its own, called by as many threads as there are clients."""

    name = "dcf"
    title = "DCF's Handler, base64"
    model = "detector"
    # The network takes one picture at a time.
    batches = (1,)

    def __init__(self, photo: Path, expected: str) -> None:
        self._photo, self._expected = photo, expected

    @contextmanager
    def up(self, engine: str, clients: int) -> Iterator[Rate]:
        command = [sys.executable, str(HANDLER), str(self._photo), self._expected, str(clients)]
        variables = {**os.environ, "DCF_ENGINE": engine}
        with subprocess.Popen(
            command, cwd=REPOSITORY, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            yield lambda seconds: self._rate(process, seconds)
            process.stdin.close()

    @staticmethod
    def _rate(process: "subprocess.Popen[str]", seconds: float) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
            return float(process.stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            raise LoadError(f"the handler ended with status {process.wait()}") from error


def rest(photo: Path) -> HttpDoor:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + photo.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()
    return HttpDoor(
        "rest",
        "REST classifier, multipart",
        ["rest"],
        "/healthz",
        "/classify/resnet",
        {"classes": 286},
        body,
        f"multipart/form-data; boundary={BOUNDARY}",
    )


def function(photo: Path) -> HttpDoor:
    return HttpDoor(
        "function",
        "Knative function, by name",
        ["function"],
        "/health/readiness",
        f"/?imageName={photo.stem}",
        {"top_prediction": [["Egyptian cat"]]},
        environment={"DATA_PATH": str(photo.parent)},
    )


def notified_function(photo: Path, environment: dict[str, str]) -> HttpDoor:
    """`environment`: leads to the bucket with the photo, whose key is its file's name."""
    stored = {"bucket": {"name": BUCKET}, "object": {"key": photo.name, "size": photo.stat().st_size}}
    record = {"eventSource": "ceph:s3", "eventName": "ObjectCreated:Put", "s3": stored}
    return HttpDoor(
        "events",
        "Knative function, by notifications of a Ceph on the same cores",
        ["function"],
        "/health/readiness",
        "/",
        {"top_prediction": [["Egyptian cat"]]},
        json.dumps({"Records": [record]}).encode(),
        environment=environment,
    )
