"""Load from Debian's generators: closed loop by wrk, open loop and fixed counts by h2load."""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client"}
JSON_POST = ["-H", "content-type: application/json"]
TIMEOUT_S = 60


class LoadError(Exception):
    """A turn that counts for nothing: the generator is missing, or an answer was not a 2xx."""


@dataclass(frozen=True)
class Answers:
    count: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.count / self.seconds


def closed_loop(
    url: str, body: Path | None, clients: int, seconds: float, content_type: str = "application/json"
) -> Answers:
    """POSTs `body`, or GETs where there is none, from `clients` connections, each as soon as its last answer came.

    One thread of wrk: of wrk, hey and h2load it takes the least of the cores that it shares with the server
    (`scripts/bench cost` shows how much).
    """
    script = Path(__file__).with_name("post.lua")
    command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_S}s"]
    output = generate([*command, "-s", str(script), url], BODY=str(body or ""), CONTENT_TYPE=content_type)
    return wrk_answers(output, url)


def wrk_answers(output: str, url: str) -> Answers:
    """What post.lua printed; raises LoadError when any answer failed or none came."""
    line = re.search(r"^VISIONSERVE (\d+) ([\d.]+) (\d+) (\d+)$", output, re.MULTILINE)
    if line is None:
        raise LoadError(f"wrk gave no figures for {url}: {last_line(output)}")
    answered, refused, broken = int(line[1]), int(line[3]), int(line[4])
    if refused or broken:
        raise LoadError(f"of {answered} answers of {url}, {refused} were not 2xx; {broken} requests got none")
    if not answered:
        raise LoadError(f"{url} answered nothing in the turn")
    return Answers(answered, float(line[2]))


def open_loop(url: str, body: Path, interval_ms: int, seconds: float) -> list[float]:
    """Latencies in ms of requests that start every `interval_ms`, whether or not earlier ones are answered.

    h2load opens one connection per arrival (-n N -c N -r 1), so a server that stalls does not slow the arrivals.
    """
    count = max(1, round(seconds * 1000 / interval_ms))
    return h2load(url, body, count, ["-c", str(count), "-r", "1", f"--rate-period={interval_ms}ms"])


def fixed_count(url: str, body: Path, clients: int, count: int) -> list[float]:
    """Latencies in ms of `count` requests from `clients` connections in closed loop."""
    return h2load(url, body, count, ["-c", str(clients)])


def h2load(url: str, body: Path, count: int, options: list[str]) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "requests.tsv")
        command = ["h2load", "--h1", "-n", str(count), *options, "-d", str(body), *JSON_POST, f"--log-file={log}"]
        output = generate([*command, url])
        rows = log.read_text() if log.exists() else ""
    return h2load_latencies(rows, count, url, output)


def h2load_latencies(rows: str, count: int, url: str, output: str = "") -> list[float]:
    """h2load's log (start in µs, status, µs to the end of the answer) as latencies in ms.

    Raises LoadError unless it holds `count` answers, all of them 2xx.
    """
    statuses_and_times = [line.split("\t")[1:3] for line in rows.splitlines()]
    served = [int(time) / 1000 for status, time in statuses_and_times if 200 <= int(status) < 300]
    if len(served) != count:
        raise LoadError(f"{count} requests to {url} got {len(served)} 2xx answers: {last_line(output)}")
    return served


def generate(command: list[str], **environment: str) -> str:
    """What the generator printed; installs it where this user may, and raises LoadError where not."""
    tool = command[0]
    if shutil.which(tool) is None:
        install(tool)
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LoadError(f"{tool} ended with status {done.returncode}: {last_line(done.stdout)}")
    return done.stdout


def install(tool: str) -> None:
    package = PACKAGES[tool]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LoadError(f"{tool} is not installed; install the package {package} (sudo apt-get install {package})")
    command = ["apt-get", "install", "-y", "--no-install-recommends", package]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode or shutil.which(tool) is None:
        raise LoadError(f"apt-get could not install {package}: {last_line(done.stdout)}")


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
