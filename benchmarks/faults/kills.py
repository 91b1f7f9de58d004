"""Workers and model servers killed or stopped under load: what fails, and how long until they are back."""

import json
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import requests
from deployment import API, REPOSITORY, cortex, free_port, machine

from tests.steady_load import Answer, Load
from visionserve.cortex import control
from visionserve.cortex.store import Store

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())
LABEL = "Egyptian_cat"
WORKER_DUE, MODEL_SERVER_DUE = 2.0, 6.0
MODEL_SERVER = "model server"
# Seconds of load between two faults.
REST = 3.0
# An answer that was on its way as the process died may come this many seconds later.
ON_ITS_WAY = 0.5
TIMEOUT = 60


@dataclass
class Fault:
    """`moment` of time.monotonic; `back`: seconds until the process that takes its place has taken requests."""

    name: str
    signal: int
    moment: float
    back: float
    health: list[int] = field(default_factory=list)


@click.command()
@click.option("--engine", default="openvino", show_default=True)
@click.option("--kills", default=10, show_default=True, help="Of workers.")
@click.option("--server-kills", default=3, show_default=True, help="Of the model server, and as often stopped.")
@click.option("--clients", default=8, show_default=True)
def main(engine: str, kills: int, server_kills: int, clients: int) -> None:
    """Kill and stop processes of a deployment of cortex_cpu.yaml under load and print each figure beside what is due.

    The clients of the load run on the same cores.
    """
    click.echo(f"machine: {machine()}")
    with tempfile.TemporaryDirectory() as state:
        environment = {**os.environ, "XDG_STATE_HOME": state, "VISIONSERVE_EXIT_WITH_PID": str(os.getpid())}
        cortex(environment, "deploy", REPOSITORY / "cortex_cpu.yaml", "--engine", engine, "--port", free_port())
        try:
            faults, answers = run(environment, kills, server_kills, clients)
        finally:
            cortex(environment, "delete", API)
    if not all([*map(say, faults), say_answers(faults, answers)]):
        raise SystemExit(1)


def run(environment: dict[str, str], kills: int, server_kills: int, clients: int) -> tuple[list[Fault], list[Answer]]:
    endpoint = json.loads(cortex(environment, "get", API, "-o", "json"))[0]["endpoint"]
    path = Store(Path(environment["XDG_STATE_HOME"], "visionserve", "apis")).get(API).control
    plan = [(f"worker {number % 2}", signal.SIGKILL) for number in range(kills)]
    plan += [(MODEL_SERVER, number) for number in (signal.SIGKILL, signal.SIGSTOP) for _ in range(server_kills)]
    faults = []
    with Load(endpoint, SAMPLE, clients) as load:
        for name, number in plan:
            time.sleep(REST)
            faults.append(break_one(path, endpoint, load, name, number))
        time.sleep(REST)
    return faults, load.answers


def break_one(path: Path, endpoint: str, load: Load, name: str, number: signal.Signals) -> Fault:
    def process() -> Any:
        return control.ask(path, "status")["processes"].get(name)

    broken = process()
    moment = time.monotonic()
    os.kill(broken, number)
    health: list[int] = []
    watching = threading.Event()
    watch = threading.Thread(target=watch_health, args=(endpoint, health, watching))
    if name == MODEL_SERVER:
        watch.start()
    wait_for(lambda: process() not in (None, broken))
    if name == MODEL_SERVER:
        wait_for(lambda: any(answered_after(answer, moment) for answer in load.answers))
        back = min(answer.ended for answer in load.answers if answered_after(answer, moment)) - moment
        watching.set()
        watch.join()
        return Fault(name, number, moment, back, health)
    return Fault(name, number, moment, time.monotonic() - moment)


def answered_after(answer: Answer, moment: float) -> bool:
    return answer.status == 200 and answer.ended > moment + ON_ITS_WAY


def watch_health(endpoint: str, codes: list[int], stop: threading.Event) -> None:
    while not stop.wait(0.1):
        codes.append(requests.get(f"{endpoint}/healthz", timeout=TIMEOUT).status_code)


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise click.ClickException(f"What was broken is not back after {TIMEOUT} s.")
        time.sleep(0.02)


def say(fault: Fault) -> bool:
    due = MODEL_SERVER_DUE if fault.name == MODEL_SERVER else WORKER_DUE
    how = "killed" if fault.signal == signal.SIGKILL else "stopped"
    health = f"; /healthz: {dict(Counter(fault.health))}" if fault.health else ""
    met = fault.back <= due
    click.echo(f"{fault.name} {how}: back after {fault.back:.2f} s, due {due:g}{health}: {'met' if met else 'NOT MET'}")
    return met


def say_answers(faults: list[Fault], answers: list[Answer]) -> bool:
    deaths = [fault.moment for fault in faults if fault.name != MODEL_SERVER]
    broken = [answer for answer in answers if answer.status not in (200, 503)]
    in_flight = [
        answer for answer in broken if any(answer.sent <= moment <= answer.ended + ON_ITS_WAY for moment in deaths)
    ]
    wrong = [answer for answer in answers if answer.status == 200 and json.loads(answer.body)[0] != LABEL]
    click.echo(f"answers: {dict(Counter(answer.status for answer in answers))} (None: the connection broke)")
    click.echo(f"failed: {len(broken)}, of them in flight as a worker died: {len(in_flight)} (due: all)")
    click.echo(f"wrong: {len(wrong)} (due: 0)")
    return len(broken) == len(in_flight) and not wrong


if __name__ == "__main__":
    main()
