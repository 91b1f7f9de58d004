import os
import resource
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from contestants import stop
from load import LoadError, last_line

# For imports, and for connections that are closed.
MARGIN_S = 60


@dataclass(frozen=True)
class Ended:
    """What a run left: its figures and the CPU seconds, user and system, of its whole process tree."""

    figures: str
    cpu_s: float


@dataclass(frozen=True)
class Run:
    """A command of `seconds` with the variables that it needs; its figures are what it prints, or a file's content."""

    command: list[str]
    seconds: float
    variables: dict[str, str] = field(default_factory=dict)
    file: Path | None = None

    def execute(self) -> Ended:
        """Raises LoadError unless it ends with status 0 in time. Without proxies: the server is on this machine."""
        inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        program = Path(self.command[0]).name
        with tempfile.TemporaryFile("w+") as output:
            before = cpu_of_ended_children()
            # A session of its own: an interrupt reaches it through stop() alone, and stop() finds all of it.
            process = psutil.Popen(
                self.command,
                env={**inherited, **self.variables},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(self.seconds + MARGIN_S)
            except psutil.TimeoutExpired as error:
                raise LoadError(f"{program} did not end within {MARGIN_S} s of its {self.seconds:g} s") from error
            finally:
                stop(process)
            cpu_s = cpu_of_ended_children() - before
            output.seek(0)
            said = output.read()
        if status:
            raise LoadError(f"{program} ended with status {status}: {last_line(said)}")
        return Ended(self.file.read_text() if self.file else said, cpu_s)


def cpu_of_ended_children() -> float:
    """CPU seconds of this process's children that have ended, and of theirs that they waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
