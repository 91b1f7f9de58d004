"""Ten thousand requests that fail in each stage, and what is left of them."""

import base64
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import click
import psutil
import requests
import yaml
from deployment import REPOSITORY, Deployment, deployed, machine

from tests.faults.open_loop import send
from tests.faults.raw_client import connect, head

PREDICTOR = """
import numpy as np
from resnet50 import TensorFlowPredictor as ResNet50


class TensorFlowPredictor(ResNet50):
    def predict(self, payload, query_params):
        if "rows" not in query_params:
            return super().predict(payload, query_params)
        # No rows pass every check but the engine's.
        return self.client.predict({"input": np.zeros((int(query_params["rows"]), 224, 224, 3), np.uint8)})
"""
SAMPLE = (REPOSITORY / "sample.json").read_bytes()
BROKEN = json.dumps({"img": base64.b64encode(base64.b64decode(json.loads(SAMPLE)["img"])[:2000]).decode()}).encode()
CLIENTS = 8
GROWTH_DUE = 1.05
SETTLE_SECONDS = 60
JSON = {"content-type": "application/json"}
# A refusal needs others before it: requests a second that no machine of this size can answer.
RATE = 500


def decode(endpoint: str, count: int) -> None:
    post_all(endpoint, BROKEN, count, {400, 503})


def engine(endpoint: str, count: int) -> None:
    post_all(f"{endpoint}/?rows=0", b"{}", count, {500, 503})


def queue(endpoint: str, count: int) -> None:
    refused = 0
    while refused < count:
        refused += sum(reply.status == 503 for reply in send(endpoint, SAMPLE, RATE, 1 / RATE))


def client_gone_in_the_body(endpoint: str, count: int) -> None:
    for _ in range(count):
        with connect(endpoint) as connection:
            connection.sendall(head(len(SAMPLE)) + SAMPLE[:-1])


def client_gone_in_the_queue(endpoint: str, count: int) -> None:
    for _ in range(count):
        with connect(endpoint) as connection:
            connection.sendall(head(len(SAMPLE)) + SAMPLE)


STAGES: tuple[Callable[[str, int], None], ...] = (
    decode,
    engine,
    queue,
    client_gone_in_the_body,
    client_gone_in_the_queue,
)


@click.command()
@click.option("--engine", "name", default="openvino", show_default=True)
@click.option("--requests", "count", default=10_000, show_default=True, help="Of each stage.")
def main(name: str, count: int) -> None:
    """Let requests fail in each stage and print every process's memory and what is in flight, before and after.

    A tenth of them come beforehand, because what is used for the first time stays.
    """
    click.echo(f"machine: {machine()}")
    with project() as spec, deployed(name, spec) as deployment:
        endpoint = deployment.row()["endpoint"]
        for fail in STAGES:
            fail(endpoint, count // 10)
            settle(deployment)
            before, files = memory(deployment), open_files(deployment)
            started = time.monotonic()
            fail(endpoint, count)
            seconds = time.monotonic() - started
            in_flight = settle(deployment)
            after, files_after = memory(deployment), open_files(deployment)
            click.echo(f"{fail.__name__.replace('_', ' ')}: {count} in {seconds:.0f} s")
            for process, size in after.items():
                click.echo(f"  {process}: {before[process]:.1f} MiB before, {size:.1f} MiB after")
            say("memory after, over before", sum(after.values()) / sum(before.values()), GROWTH_DUE)
            say("in flight", in_flight, 0)
            say("open files more than before", files_after - files, 0)
        answer = requests.post(endpoint, data=SAMPLE, headers=JSON, timeout=60)
        say("good requests that fail afterwards", answer.status_code != 200, 0)


def say(what: str, figure: float, due: float) -> None:
    click.echo(f"  {what}: {figure:.4g}, due at most {due:g}: {'met' if figure <= due else 'NOT MET'}")


@contextmanager
def project() -> Iterator[Path]:
    """cortex_cpu.yaml with a predictor that can make the engine fail."""
    api = yaml.safe_load((REPOSITORY / "cortex_cpu.yaml").read_text())
    predictor = api[0]["predictor"]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(REPOSITORY / predictor["path"], Path(folder, "resnet50.py"))
        Path(folder, "predictor.py").write_text(PREDICTOR)
        for entry in (predictor, predictor["config"]):
            for key in ("model_path", "classes"):
                if key in entry:
                    entry[key] = str(REPOSITORY / entry[key])
        spec = Path(folder, "cortex.yaml")
        spec.write_text(yaml.safe_dump(api))
        yield spec


def post_all(url: str, body: bytes, count: int, allowed: set[int]) -> None:
    def client(_: int) -> set[int]:
        with requests.Session() as session:
            return {session.post(url, data=body, headers=JSON, timeout=60).status_code for _ in range(count // CLIENTS)}

    with ThreadPoolExecutor(CLIENTS) as clients:
        seen = set().union(*clients.map(client, range(CLIENTS)))
    if not seen <= allowed:
        raise click.ClickException(f"{url} answered {sorted(seen)}, not only {sorted(allowed)}.")


def settle(deployment: Deployment) -> int:
    """What is in flight when nothing changes any more."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (in_flight := deployment.row()["in_flight"]) and time.monotonic() < deadline:
        time.sleep(1)
    # Kept-alive connections end, and freed memory goes back.
    time.sleep(10)
    return in_flight


def processes(deployment: Deployment) -> dict[str, psutil.Process]:
    workers = {name: psutil.Process(pid) for name, pid in deployment.row()["processes"].items()}
    supervisor = next(iter(workers.values())).parent()
    assert supervisor is not None
    return {"supervisor": supervisor, **workers}


def memory(deployment: Deployment) -> dict[str, float]:
    """MiB, by process."""
    return {name: process.memory_info().rss / 2**20 for name, process in processes(deployment).items()}


def open_files(deployment: Deployment) -> int:
    return sum(process.num_fds() for process in processes(deployment).values())


if __name__ == "__main__":
    main()
