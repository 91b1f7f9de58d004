"""Updates of the real classifier in a row, under the load of clients that keep their connections and that do not."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from deployment import API, REPOSITORY, cortex, free_port, machine

from tests.projects import repository_spec
from tests.steady_load import Answer, Load

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())
MODEL = REPOSITORY / "models" / "resnet50"


@click.command()
@click.option("--updates", default=10, show_default=True)
@click.option("--clients", default=4, show_default=True, help="Of each kind: connected once, connected anew each time.")
@click.option("--engine", default="openvino", show_default=True)
def main(updates: int, clients: int, engine: str) -> None:
    """Deploy a changed spec again and again, then one whose model does not load.

    Prints what failed: nothing is due to.
    """
    click.echo(f"machine: {machine()}")
    with tempfile.TemporaryDirectory() as work:
        environment = {**os.environ, "XDG_STATE_HOME": work, "VISIONSERVE_EXIT_WITH_PID": str(os.getpid())}
        run(environment, Path(work), updates, clients, engine)


def run(environment: dict[str, str], work: Path, updates: int, clients: int, engine: str) -> None:
    cortex(environment, "deploy", spec(work, 0), "--engine", engine, "--port", free_port())
    try:
        endpoint = json.loads(cortex(environment, "get", API, "-o", "json"))[0]["endpoint"]
        anew = {"connection": "close"}
        with Load(endpoint, SAMPLE, clients) as kept, Load(endpoint, SAMPLE, clients, anew) as connecting:
            time.sleep(3)
            seconds = [deploy_seconds(environment, spec(work, number + 1), engine) for number in range(updates)]
            time.sleep(3)
            broken = work / "broken"
            (broken / "1").mkdir(parents=True)
            (broken / "1" / "saved_model.pb").write_bytes(b"no model")
            refused = deploy(environment, spec(work, 0, broken), engine)
            time.sleep(3)
    finally:
        cortex(environment, "delete", API)
    click.echo(f"updates: {updates}, {statistics.median(seconds):.1f} s each (median), {max(seconds):.1f} s at most")
    click.echo(f"a model that does not load: exit code {refused.returncode}, {refused.stderr.strip().splitlines()[-1]}")
    for name, load in (("kept alive", kept), ("connected anew", connecting)):
        say(name, load.answers)


def spec(work: Path, number: int, model: Path = MODEL) -> Path:
    """The repository's CPU spec, of which `number` makes another one."""
    return repository_spec(work / "project", REPOSITORY, model, predictor={"env": {"NUMBER": str(number)}})


def deploy(environment: dict[str, str], file: Path, engine: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "visionserve.cortex.cli", "deploy", str(file), "--engine", engine]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def deploy_seconds(environment: dict[str, str], file: Path, engine: str) -> float:
    started = time.monotonic()
    done = deploy(environment, file, engine)
    if done.returncode:
        raise click.ClickException(done.stderr)
    return time.monotonic() - started


def say(name: str, answers: list[Answer]) -> None:
    failed = [answer for answer in answers if answer.status != 200]
    wrong = [answer for answer in answers if answer.status == 200 and json.loads(answer.body)[0] != "Egyptian_cat"]
    longest = max(answer.ended - answer.sent for answer in answers)
    verdict = "met" if not failed and not wrong else "NOT MET"
    click.echo(
        f"{name}: {len(answers)} requests, {len(failed)} failed, {len(wrong)} answered wrongly, due 0: {verdict}; "
        f"the longest took {longest:.2f} s"
    )
    for answer in failed[:5]:
        click.echo(f"  {answer.status} {answer.body}")


if __name__ == "__main__":
    main()
