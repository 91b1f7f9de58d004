import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.conftest import REPOSITORY, free_port

COMMAND = [sys.executable, "-m", "visionserve.cli", "rest"]


@dataclass
class RestService:
    process: subprocess.Popen[str]
    url: str
    line: str
    log: Path

    def get(self, path: str) -> requests.Response:
        return requests.get(f"{self.url}{path}", timeout=60)

    def classify(self, image: bytes, query: str = "", route: str = "resnet") -> requests.Response:
        return requests.post(f"{self.url}/classify/{route}{query}", files={"image": ("photo", image)}, timeout=60)

    def healthy(self) -> bool:
        return self.get("/healthz").status_code == 200

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


def environment(**variables: str) -> dict[str, str]:
    """This process's, without what would set the service up otherwise."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REST_")}
    return {**kept, "PYTHONPATH": str(REPOSITORY), **variables}


def started(home: Path, *options: object, **variables: str) -> subprocess.Popen[str]:
    """The command in a folder of its own, where its .env and models/resnet50 are looked for."""
    with open(home / "rest.log", "w") as log:
        return subprocess.Popen(
            [*COMMAND, *map(str, options)],
            cwd=home,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


@contextmanager
def rest_service(home: Path, *options: object, **variables: str) -> Iterator[RestService]:
    """The `visionserve rest` command on a free port; it must end well on SIGTERM, and leave no process."""
    port = free_port()
    log = home / "rest.log"
    with started(home, "--port", port, *options, **variables) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("classifying at "), log.read_text()
            service = RestService(process, f"http://127.0.0.1:{port}", line, log)
            yield service
            if process.poll() is None:
                children = service.children()
                assert service.stop() == 0, log.read_text()
                assert not any(child.is_running() for child in children)
        finally:
            process.kill()


def error(answer: requests.Response) -> tuple[int, Any]:
    """Status and sentence of a refusal."""
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    return answer.status_code, answer.json()["error"]
