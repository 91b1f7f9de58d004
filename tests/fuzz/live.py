"""The same inputs, sent to running deployments: none may be answered 500 or more, end a process or stay in memory."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import grpc
import psutil
import requests

from tests.conftest import MODEL, REPOSITORY, Machine, free_port
from tests.fuzz import seeds
from tests.fuzz.mutations import mutated
from tests.inference.model_servers import model_server
from tests.projects import repository_spec
from tests.services.function.functions import running_function

WARM = 0.3
GROWTH_MB = 32
JSON = "application/json"
CLOUD = "application/cloudevents+json"
# What a server says of its own failures.
WRONG_CODES = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}

Send = Callable[[bytes], str]
Kind = tuple[Sequence[bytes], Send]


@contextmanager
def api() -> Iterator[tuple[psutil.Process, list[Kind]]]:
    """A Cortex API with the engine that answers without a model."""
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder) / "home")
        config = {"classes": "classes.json", "max_pixels": 1_000_000, "allow_urls": False}
        spec = repository_spec(Path(folder) / "project", REPOSITORY, MODEL, predictor={"config": config})
        try:
            deployed = machine.deploy(spec, "--engine", "null", "--port", free_port())
            url, row = deployed.endpoint, deployed.row()
            with requests.Session() as session:
                images, bodies = seeds.images(), seeds.payloads()
                yield (
                    psutil.Process(row["processes"]["worker 0"]).parent(),
                    [
                        (images, _post(session, url, "application/octet-stream")),
                        (bodies, _post(session, url, JSON)),
                        (bodies, _post(session, url, "")),
                        (seeds.forms(), _post(session, url, seeds.MULTIPART)),
                        (bodies, _post(session, url, "application/x-www-form-urlencoded")),
                    ],
                )
        finally:
            machine.clean()


@contextmanager
def tensorflow_serving() -> Iterator[tuple[psutil.Process, list[Kind]]]:
    """The model server, by REST and by gRPC."""
    with (
        model_server("--model", f"resnet50={MODEL}", "--engine", "null") as server,
        requests.Session() as session,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")

        def ask(data: bytes) -> str:
            try:
                call(data, timeout=60)
            except grpc.RpcError as error:
                if error.code() in WRONG_CODES:
                    return f"{error.code()}: {error.details()}"
            return ""

        url = server.url("/v1/models/resnet50:predict")
        yield (
            psutil.Process(server.process.pid),
            [(seeds.predict_bodies(), _post(session, url, JSON)), (seeds.predict_requests(), ask)],
        )


@contextmanager
def function() -> Iterator[tuple[psutil.Process, list[Kind]]]:
    """The Knative function; no event is one of those that it fetches an object for."""
    settings = {"S3_ENABLED": "true", "S3_ENDPOINT_URL": "http://127.0.0.1:9", "S3_EVENT_NAME": "none"}
    with running_function(ENGINE="null", **settings) as running, requests.Session() as session:
        bodies = [body[1:] for body in seeds.notifications()]
        yield (
            psutil.Process(running.process.pid),
            [(bodies, _post(session, running.url, kind)) for kind in (JSON, CLOUD, "application/x-unknown")],
        )


LIVE = {"api": api, "tensorflow-serving": tensorflow_serving, "function": function}


def fuzz_live(name: str, cases: int, seed: int) -> dict[str, Any]:
    random = Random(seed)
    findings: list[str] = []
    with LIVE[name]() as (process, kinds):
        processes = _tree(process)
        warm = slowest = 0.0
        for number in range(cases):
            files, send = random.choice(kinds)
            data = mutated(random.choice(files), files, random)
            started = time.perf_counter()
            said = send(data)
            slowest = max(slowest, time.perf_counter() - started)
            if said and len(findings) < 10:
                findings.append(f"{said[:200]} for {data[:2000]!r}")
            if number == int(cases * WARM):
                warm = _megabytes(processes)
        ended = [each.pid for each in processes if not each.is_running()]
        if ended:
            findings.append(f"of its processes {ended} ended")
        end = _megabytes(processes)
    if end > warm + GROWTH_MB:
        findings.append("its memory grows")
    figures = {"cases": cases, "slowest_ms": round(slowest * 1000), "warm_mb": round(warm), "end_mb": round(end)}
    return {**figures, "how": "not guided", "findings": findings}


def _post(session: requests.Session, url: str, content_type: str) -> Send:
    headers = {"Content-Type": content_type} if content_type else {}

    def send(data: bytes) -> str:
        try:
            with closing(session.post(url, data=data, headers=headers, timeout=60)) as answer:
                return "" if answer.status_code < 500 else f"{answer.status_code} {answer.text}"
        except requests.RequestException as error:
            return repr(error)

    return send


def _tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _megabytes(processes: Sequence[psutil.Process]) -> float:
    return sum(each.memory_info().rss for each in processes if each.is_running()) / 2**20
