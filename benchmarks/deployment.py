"""A deployment of the project's CPU spec for a measurement, in a state folder of its own."""

import base64
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
API = "image-classifier-resnet50"


class Deployment:
    def __init__(self, environment: dict[str, str], seconds_to_live: float) -> None:
        self._environment = environment
        self.seconds_to_live = seconds_to_live

    def row(self) -> dict[str, Any]:
        return json.loads(cortex(self._environment, "get", API, "-o", "json"))[0]


@contextmanager
def deployed(engine: str, spec: Path = REPOSITORY / "cortex_cpu.yaml") -> Iterator[Deployment]:
    with tempfile.TemporaryDirectory() as state:
        environment = {**os.environ, "XDG_STATE_HOME": state, "VISIONSERVE_EXIT_WITH_PID": str(os.getpid())}
        started = time.monotonic()
        cortex(environment, "deploy", spec, "--engine", engine, "--port", free_port())
        try:
            yield Deployment(environment, time.monotonic() - started)
        finally:
            cortex(environment, "delete", API)


def cortex(environment: dict[str, str], *arguments: object) -> str:
    command = [sys.executable, "-m", "visionserve.cortex.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sample_photo() -> np.ndarray:
    """The sample's photograph, uint8 BGR [H, W, 3]."""
    image = base64.b64decode(json.loads((REPOSITORY / "sample.json").read_text())["img"])
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels


def write_photo(path: Path, width: int = 640, height: int = 427) -> None:
    """The sample's photograph at a camera's proportions, as a JPEG of quality 90."""
    photo = cv2.resize(sample_photo(), (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), photo, [cv2.IMWRITE_JPEG_QUALITY, 90])


def machine() -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}, {date.today()}"
