"""Load generators that post one body for some seconds, and how each is told to and says what came of it."""

import json
import re
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from shutil import which
from typing import Protocol

from clients.run import Run
from deployment import REPOSITORY
from environments import EnvironmentRefused, environment
from load import LoadError, last_line
from peer_list import Setting
from results import OURS

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Errand:
    """What to post, where and from how many connections; `body` is {"imgs": [base64 of `photo`]}."""

    url: str
    photo: Path
    body: Path
    connections: int


class Generator(Protocol):
    name: str
    title: str

    def version(self) -> str | None: ...

    def setting(self, connections: int) -> Setting: ...

    def run(self, errand: Errand, seconds: float) -> Run:
        """Raises LoadError when the generator cannot be had here."""
        ...

    def answers(self, figures: str) -> int:
        """How many requests were answered, from the figures that a run left.

        Raises LoadError when any of them failed.
        """
        ...


class Ours:
    name = OURS
    title = "throughput_test.py"

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers

    def version(self) -> str | None:
        return None

    def setting(self, connections: int) -> Setting:
        return {"-w": str(self._workers), "-t": str(connections // self._workers)}

    def run(self, errand: Errand, seconds: float) -> Run:
        file = errand.body.with_name("figures.json")
        file.unlink(missing_ok=True)
        options = [part for pair in self.setting(errand.connections).items() for part in pair]
        options += ["-i", str(seconds), "--json", str(file), str(errand.photo), errand.url]
        return Run([sys.executable, str(REPOSITORY / "throughput_test.py"), *options], seconds, file=file)

    def answers(self, figures: str) -> int:
        document = json.loads(figures)
        if any(document["errors"].values()):
            raise LoadError(f"throughput_test.py counted errors: {document['errors']}")
        return document["requests"]


class Hey:
    name = "hey"
    title = "hey"

    def version(self) -> str | None:
        return None

    def setting(self, connections: int) -> Setting:
        return {"-c": str(connections)}

    def run(self, errand: Errand, seconds: float) -> Run:
        if which("hey") is None:
            raise LoadError("hey is not installed; install the package hey (sudo apt-get install hey)")
        options = ["-z", f"{round(seconds * 1000)}ms", "-c", str(errand.connections), "-m", "POST"]
        options += ["-T", "application/json", "-D", str(errand.body)]
        return Run(["hey", *options, errand.url], seconds)

    def answers(self, figures: str) -> int:
        statuses = {int(status): int(count) for status, count in re.findall(r"\[(\d{3})]\s+(\d+) responses", figures)}
        if set(statuses) != {200} or "Error distribution" in figures:
            raise LoadError(f"hey counted answers by status as {statuses}: {last_line(figures)}")
        return statuses[200]


class Locust:
    name = "locust"
    title = "Locust, FastHttpUser"
    _requirements = FOLDER / "locust" / "requirements.txt"

    def version(self) -> str | None:
        lines = self._requirements.read_text().splitlines()
        return next(line.partition("==")[2] for line in lines if line.startswith("locust=="))

    def setting(self, connections: int) -> Setting:
        return {"--users": str(connections)}

    def run(self, errand: Errand, seconds: float) -> Run:
        try:
            programs = environment(self.name, self._requirements)
        except EnvironmentRefused as error:
            raise LoadError(str(error)) from error
        users = str(errand.connections)
        options = [
            "-f",
            str(FOLDER / "locust" / "locustfile.py"),
            "--headless",
            "--users",
            users,
            "--spawn-rate",
            users,
        ]
        options += ["--json", "--skip-log", "--only-summary", "--host", errand.url]
        variables = {"BODY": str(errand.body), "TARGET": errand.url, "SECONDS": str(seconds)}
        return Run([str(programs / "locust"), *options], seconds, variables)

    def answers(self, figures: str) -> int:
        found = re.search(r"^\[.*^]", figures, re.DOTALL | re.MULTILINE)
        totals = json.loads(found[0]) if found else []
        if len(totals) != 1 or totals[0]["num_failures"]:
            raise LoadError(f"Locust printed no figures without failures: {last_line(figures)}")
        return totals[0]["num_requests"]


class Loop:
    """One thread and so one connection at a time: eight threads of this loop spend more on each request, not less."""

    def __init__(self, name: str, title: str, way: str) -> None:
        self.name, self.title, self._way = name, title, way

    def version(self) -> str | None:
        return version("requests")

    def setting(self, connections: int) -> Setting:
        return {"connections": "1"}

    def run(self, errand: Errand, seconds: float) -> Run:
        script = [sys.executable, str(FOLDER / "loop.py")]
        return Run([*script, errand.url, str(errand.body), str(seconds), self._way], seconds)

    def answers(self, figures: str) -> int:
        return int(last_line(figures))


PEERS: tuple[Generator, ...] = (
    Hey(),
    Locust(),
    Loop("plain", "requests.post(...)", "post"),
    Loop("session", "Session().post(...)", "session"),
)
