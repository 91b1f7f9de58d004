"""Seconds from `cortex deploy` to live, and resident memory of the idle deployment."""

import statistics

import click
import psutil
import requests
from deployment import REPOSITORY, deployed, machine


@click.command()
@click.option("--engine", default="openvino", show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(engine: str, rounds: int) -> None:
    """Measure how fast the CPU spec is live and how much memory it holds after one request."""
    click.echo(f"machine: {machine()}")
    seconds = []
    for number in range(rounds):
        with deployed(engine) as deployment:
            seconds.append(deployment.seconds_to_live)
            if number == rounds - 1:
                show_memory(deployment.row())
    spread = f"min {min(seconds):.1f}, max {max(seconds):.1f}, {rounds} times"
    click.echo(f"cortex deploy to live: median {statistics.median(seconds):.1f} s ({spread})")


def show_memory(row: dict) -> None:
    sample = (REPOSITORY / "sample.json").read_bytes()
    requests.post(row["endpoint"], data=sample, headers={"content-type": "application/json"}, timeout=60)
    processes = {name: psutil.Process(pid) for name, pid in row["processes"].items()}
    processes["supervisor"] = next(iter(processes.values())).parent()
    resident = {name: process.memory_info().rss / 2**20 for name, process in processes.items()}
    for name, size in resident.items():
        click.echo(f"{name:14}{size:8.0f} MiB resident")
    click.echo(f"{'all':14}{sum(resident.values()):8.0f} MiB resident")


if __name__ == "__main__":
    main()
