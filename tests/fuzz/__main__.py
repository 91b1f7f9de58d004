"""scripts/fuzz: see --help."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from tests.conftest import REPOSITORY
from tests.fuzz.child import REPORT
from tests.fuzz.live import GROWTH_MB, LIVE, fuzz_live

# Each with its weight: images pass through more code than the rest.
IN_PROCESS = {"image": 3, "body": 1, "form": 1, "spec": 1, "event": 1, "proto": 1, "predict": 1, "url": 1}
SLOWEST_MS = 1000


@click.command()
@click.argument("targets", nargs=-1, metavar=f"[{'|'.join([*IN_PROCESS, *LIVE])}]...")
@click.option("--cases", default=100_000, show_default=True, help="Of all targets together.")
@click.option("--seed", default=1, show_default=True)
def main(targets: tuple[str, ...], cases: int, seed: int) -> None:
    """Sends what is wrong in many ways to the parsers, and to running deployments, and exits with 1 on any finding.

    A finding is an exception that is none of the closed list, an answer that contradicts another way to it, a crash, a
    case of more than a second of CPU time, an answer of 500 or more, or memory that grows. The parsers run in processes
    of their own, guided by coverage where atheris is installed; running deployments are asked over HTTP and gRPC.
    """
    unknown = set(targets) - {*IN_PROCESS, *LIVE}
    if unknown:
        raise click.UsageError(f"{', '.join(sorted(unknown))}: choose from {', '.join([*IN_PROCESS, *LIVE])}.")
    chosen = targets or (*IN_PROCESS, *LIVE)
    weights = {name: IN_PROCESS.get(name, 1) for name in chosen}
    click.echo(f"seed {seed}")
    findings = 0
    for name, weight in weights.items():
        share = max(100, cases * weight // sum(weights.values()))
        report = fuzz_live(name, share, seed) if name in LIVE else fuzz(name, share, seed)
        findings += len(report["findings"])
        line = "{cases} cases, {how}, slowest {slowest_ms} ms, memory {warm_mb} -> {end_mb} MB".format(**report)
        click.echo(f"{name}: {line}, {len(report['findings'])} findings")
        for finding in report["findings"]:
            click.echo(f"  {finding}")
    sys.exit(bool(findings))


def fuzz(names: str, cases: int, seed: int) -> dict[str, Any]:
    """One target, or several with commas between, in a child process, so that what kills it is a finding too."""
    folder = Path(tempfile.mkdtemp(prefix="visionserve-fuzz-"))
    log = folder / "log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "tests.fuzz.child", names, str(cases), str(seed), str(folder)]
        environment = {**os.environ, "OPENCV_LOG_LEVEL": "SILENT"}
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output, check=False)
    lines = log.read_text(errors="replace").splitlines()
    told = [json.loads(line.removeprefix(REPORT)) for line in lines if line.startswith(REPORT)]
    report = told[-1] if told else {"cases": 0, "slowest_ms": 0, "warm_mb": 0, "end_mb": 0}
    findings = []
    if done.returncode or not told:
        reason = next((line for line in reversed(lines) if "Error" in line and "libFuzzer" not in line), "see its log")
        findings.append(f"it ended with {done.returncode}: {reason.strip()} ({folder / 'case'}, {log})")
    if report["slowest_ms"] > SLOWEST_MS:
        findings.append(f"a case took {report['slowest_ms']} ms of CPU time")
    if report["end_mb"] > report["warm_mb"] + GROWTH_MB:
        findings.append("its memory grows")
    branches = next((line.split("cov:")[1].split()[0] for line in reversed(lines) if "cov:" in line), None)
    if not findings:
        shutil.rmtree(folder)
    how = f"guided by coverage to {branches} branches" if branches else "not guided"
    return {**report, "how": how, "findings": findings}


if __name__ == "__main__":
    main()
