"""A deployment whose processes all stop for a while, as on a machine that sleeps, and go on."""

import json
import time

import click
import psutil
from deployment import REPOSITORY, Deployment, deployed, machine

from tests.steady_load import TIMEOUT_SECONDS, Load

SAMPLE = json.loads((REPOSITORY / "sample.json").read_text())


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="How long it sleeps.")
@click.option("--clients", default=4, show_default=True)
@click.option("--engine", default="openvino", show_default=True)
def main(seconds: float, clients: int, engine: str) -> None:
    """Stop every process of a deployment of cortex_cpu.yaml under load, and let it go on.

    Prints how long it took until answers came again, and what failed or was started again: nothing is due to.
    """
    click.echo(f"machine: {machine()}")
    with deployed(engine) as deployment:
        before = deployment.row()
        # The clients would rather wait than give up what they have asked.
        with Load(before["endpoint"], SAMPLE, clients, timeout=seconds + TIMEOUT_SECONDS) as load:
            time.sleep(5)
            everything = processes(deployment)
            for process in everything:
                process.suspend()
            time.sleep(seconds)
            for process in everything:
                process.resume()
            awake = time.monotonic()
            time.sleep(10)
        after = deployment.row()
    back = min(answer.ended for answer in load.answers if answer.ended > awake) - awake
    click.echo(f"asleep for {seconds:g} s, first answer {back:.2f} s after; {len(load.answers)} requests in all")
    slept = [answer for answer in load.answers if answer.sent <= awake < answer.ended]
    answered = sum(answer.status == 200 for answer in slept)
    click.echo(f"in flight meanwhile: {len(slept)}, answered {answered}; an inference times out after 60 s")
    report("requests after it that failed", len([answer for answer in load.failed if answer.sent > awake]))
    for answer in load.failed[:5]:
        click.echo(f"  {answer.status} {answer.body}")
    report("processes started again", after["restarts"] + (after["processes"] != before["processes"]))


def processes(deployment: Deployment) -> list[psutil.Process]:
    """The supervisor and all that it started."""
    supervisor = psutil.Process(deployment.row()["processes"]["worker 0"]).parent()
    assert supervisor is not None
    return [supervisor, *supervisor.children(recursive=True)]


def report(what: str, count: int) -> None:
    click.echo(f"{what}: {count}, due 0: {'met' if not count else 'NOT MET'}")


if __name__ == "__main__":
    main()
