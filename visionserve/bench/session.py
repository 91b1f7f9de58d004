from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import click

from visionserve.bench.figures.document import Run, document, to_json
from visionserve.bench.figures.metrics import fold
from visionserve.bench.load.interrupts import Interrupts
from visionserve.bench.load.outcome import Outcome
from visionserve.bench.load.plan import Plan
from visionserve.bench.load.run import Watch, run_load
from visionserve.bench.reports.files import check_report, check_writable, write_report
from visionserve.bench.reports.progress import Progress
from visionserve.bench.reports.spreadsheet import to_csv
from visionserve.bench.reports.summary import step
from visionserve.files import write_atomically


@dataclass(frozen=True)
class Session:
    """Measures one plan after the other, and shows its progress."""

    interrupts: Interrupts
    price_per_hour: float | None

    def measure(self, plan: Plan, watch: Watch | None = None) -> Run:
        """Raises KeyboardInterrupt when interrupted before any load was sent."""
        started = datetime.now(timezone.utc)
        with Progress() as progress:

            def show(outcome: Outcome) -> bool:
                progress.show(outcome)
                return watch is not None and watch(outcome)

            outcome = run_load(plan, self.interrupts, show)
        return document(fold(outcome, plan), plan, started, self.price_per_hour)

    def measure_step(self, plan: Plan, watch: Watch | None = None) -> Run:
        """As `measure`, with a line for the run."""
        run = self.measure(plan, watch)
        click.echo(step(run))
        return run


@dataclass(frozen=True)
class Files:
    """Where the figures go besides the terminal."""

    json: Path | None
    csv: Path | None
    report: Path | None

    def check(self) -> None:
        """Raises UsageError, before any load, for a file that could not be written after it; MissingError."""
        for option, path in (("--json", self.json), ("--csv", self.csv)):
            if path is not None:
                check_writable(option, path)
        if self.report is not None:
            check_report(self.report)

    def write(self, run: Run) -> None:
        if self.json is not None:
            write_atomically(self.json, to_json(run))
        if self.csv is not None:
            write_atomically(self.csv, to_csv(run.steps or [run]).encode())
        if self.report is not None:
            write_report(self.report, [(self.report.stem, run)])
