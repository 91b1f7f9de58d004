"""This project, the bare engine and other servers by turns in one run."""

import base64
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from cases import CASES, Case
from competition import Competition, Pace
from contestants import PeerServer
from deployment import REPOSITORY, machine, write_photo
from environments import environment
from peer_list import PEERS
from results import CaseResult
from tables import table

from visionserve.files import write_atomically

CHARTS = REPOSITORY / "benchmarks" / "charts"


@click.command()
@click.option("--case", "names", multiple=True, type=click.Choice([case.name for case in CASES]), help="Default: all.")
@click.option("--peer", "peers", multiple=True, type=click.Choice([peer.name for peer in PEERS]), help="Default: all.")
@click.option("--no-peers", is_flag=True, help="Only the bare engine and this project.")
@click.option("--rounds", default=5, show_default=True, help="Turns of each contestant.")
@click.option("--seconds", default=15.0, show_default=True, help="Length of one turn.")
@click.option("--latency-seconds", default=60.0, show_default=True, help="Length of one turn of the latency case.")
@click.option("--trial-seconds", default=6.0, show_default=True, help="Length of one trial of a setting.")
@click.option("--warm-up-seconds", default=3.0, show_default=True, help="Load before each turn.")
@click.option("--clients", default=8, show_default=True, help="Connections in closed loop.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here, after each round.")
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw the result as a PNG here.")
def main(
    names: tuple[str, ...],
    peers: tuple[str, ...],
    no_peers: bool,
    json_file: Path | None,
    picture: Path | None,
    **pace: Any,
) -> None:
    """Measure this project beside the bare engine and other servers.

    Each round starts, warms, measures and stops every contestant once, in an order that rotates; nothing else runs
    meanwhile. Peers install into build/peers the first time. Before the rounds each contestant tries its settings
    and keeps the best. A contestant that fails a single request is void.

    Example: scripts/bench serving --case openvino --peer mosec --json run.json --picture run.png
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    servers = [] if no_peers else [PeerServer(peer) for peer in PEERS if not peers or peer.name in peers]
    competition = Competition(servers, Pace(**pace), click.echo)
    about = {"machine": machine(), **pace}
    click.echo(f"machine: {about['machine']}")
    results: dict[str, CaseResult] = {}

    def keep(result: CaseResult) -> None:
        results[result.case.name] = result
        if json_file is not None:
            write_atomically(json_file, json.dumps(as_data(about, results), indent=2).encode())

    with tempfile.TemporaryDirectory() as work:
        for case in CASES:
            if not names or case.name in names:
                keep(competition.run(case, request_body(case, Path(work)), closed_loop_twin(case, results), keep))
    for result in results.values():
        click.echo("\n" + "\n".join(table(result)))
    click.echo(f"\nmachine: {about['machine']}")
    if picture is not None:
        draw(as_data(about, results), picture)


def as_data(about: dict[str, Any], results: dict[str, CaseResult]) -> dict[str, Any]:
    return {**about, "cases": {name: result.as_data() for name, result in results.items()}}


def closed_loop_twin(case: Case, results: dict[str, CaseResult]) -> CaseResult | None:
    twins = (r for r in results.values() if r.case.peers and (r.case.engine, r.case.size) == (case.engine, case.size))
    return next(twins, None) if case.open_loop else None


def request_body(case: Case, folder: Path) -> Path:
    """JSON {"img": base64 of a JPEG} of the case's size."""
    photo = folder / f"{case.size[0]}x{case.size[1]}.jpg"
    write_photo(photo, *case.size)
    body = photo.with_suffix(".json")
    body.write_text(json.dumps({"img": base64.b64encode(photo.read_bytes()).decode()}))
    return body


def draw(data: dict[str, Any], picture: Path) -> None:
    programs = environment("charts", CHARTS / "requirements.txt")
    command = [str(programs / "python"), str(CHARTS / "draw.py"), str(picture)]
    subprocess.run(command, input=json.dumps(data), text=True, check=True)
    click.echo(f"picture: {picture}")


if __name__ == "__main__":
    main()
