import threading
from typing import Any

import click
import orjson

from visionserve.errors import DeploymentError


class ClientRows:
    """Prints the rows that a job sends to the client as they come: labels to stdout, reasons of broken ones to stderr.

    `images`, `broken`: how many of each came; `error`: what kept it from printing one, which is then the last.
    """

    def __init__(self, as_lines: bool, rows: Any) -> None:
        """`as_lines`: as JSON; `rows`: Java's iterator of them, None where the job sends none."""
        self.images = 0
        self.broken = 0
        self.error: OSError | None = None
        self._as_lines = as_lines
        self._rows = rows
        self._thread = threading.Thread(target=self._print, name="rows", daemon=True)
        if rows is not None:
            self._thread.start()

    def join(self, seconds: float) -> None:
        """Waits for the last ones of a job that has ended."""
        if self._rows is not None:
            self._thread.join(seconds)

    def check(self) -> None:
        """Raises BrokenPipeError where nobody reads the rows, DeploymentError where they cannot be printed."""
        if isinstance(self.error, BrokenPipeError):
            raise self.error
        if self.error is not None:
            raise DeploymentError(f"The rows cannot be printed: {self.error.strerror}.") from self.error

    def _print(self) -> None:
        from py4j.protocol import Py4JError

        try:
            while self._rows.hasNext():
                self._print_row(self._rows.next())
        except Py4JError:
            # The job failed or was canceled, which the job's own result tells.
            return
        except OSError as error:
            self.error = error

    def _print_row(self, line: str) -> None:
        row = orjson.loads(line)
        if "error" in row:
            self.broken += 1
            click.echo(line if self._as_lines else row["error"], err=True)
            return
        self.images += 1
        labels = ", ".join(f"{each['label']} {each['probability']:.3f}" for each in row["top5"])
        click.echo(line if self._as_lines else f"{row['image']}: {labels}")
