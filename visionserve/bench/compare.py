from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from visionserve.bench.parameters import Positive
from visionserve.bench.reports.files import check_report, write_report
from visionserve.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from visionserve.bench.reports.comparison import Entries

# As wide as any table; a pipe has no width to keep to.
UNLIMITED = 100_000


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--price",
    "prices",
    type=Positive("price", max=1_000_000),
    multiple=True,
    help="What a run's server costs an hour, once for each FILE in their order; without it, what the file says.",
)
@click.option("--report", type=click.Path(path_type=Path), help="Also write charts and all figures to this .html file.")
def compare(files: tuple[Path, ...], prices: tuple[float, ...], report: Path | None) -> None:
    """Puts runs of throughput_test.py side by side, with speed-up and cost against the first.

    Each FILE is what --json wrote. One is enough for a --report.

    \b
    Examples:
      visionserve compare cpu.json gpu.json inferentia.json
      visionserve compare cpu.json gpu.json --price 0.17 --price 0.526 --report hardware.html
    """
    if len(files) < (2 if report is None else 1):
        raise UsageError("There is nothing to compare: name two or more files that throughput_test.py --json wrote.")
    if prices and len(prices) != len(files):
        raise UsageError(f"There are {len(prices)} --price for {len(files)} FILE: give one for each, in their order.")
    if report is not None:
        check_report(report)

    from visionserve.bench.figures.document import read
    from visionserve.bench.reports.comparison import cautions, priced, unique_names

    runs = [read(path) for path in files]
    if prices:
        runs = [priced(run, price) for run, price in zip(runs, prices, strict=True)]
    entries = list(zip(unique_names(files), runs, strict=True))
    if report is not None:
        write_report(report, entries)
    _print_tables(entries)
    for sentence in cautions(entries):
        click.echo(_printable(sentence))
    if report is not None:
        click.echo(f"report written to {report}")


def _print_tables(entries: "Entries") -> None:
    """All runs in one table, or in as many as the terminal needs to show every figure."""
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False)
    width = console.width if console.is_terminal else UNLIMITED
    console.width = UNLIMITED
    rows = _rows(entries)
    columns = range(1, len(entries) + 1)
    while columns:
        tables = [_table(rows, columns[:shown]) for shown in range(len(columns), 0, -1)]
        table = next((table for table in tables if console.measure(table).maximum <= width), tables[-1])
        console.print(table)
        columns = columns[len(table.columns) - 1 :]


def _rows(entries: "Entries") -> list[list[str]]:
    """A row for each figure: its name, then its value for each run. The first row has the runs' names."""
    from visionserve.bench.figures.units import milliseconds, rate
    from visionserve.bench.reports.comparison import cost, differences, errors, margin, side_by_side, times

    sides = side_by_side(entries)
    rows = [
        ["", *(side.name for side in sides)],
        *([name, *values] for name, values in differences(entries)),
        ["inferences/s", *(f"{rate(side.run.inferences_per_s)}{margin(side.run)}" for side in sides)],
        ["speed-up", *(times(side.speed_up) for side in sides)],
        ["p50 (ms)", *(milliseconds(side.run.latency_ms["p50"]) for side in sides)],
        ["p99 (ms)", *(milliseconds(side.run.latency_ms["p99"]) for side in sides)],
        ["errors", *(errors(side.run) for side in sides)],
        ["trusted", *("yes" if side.run.stability.trusted else "no" for side in sides)],
    ]
    if any(side.run.cost_per_million is not None for side in sides):
        rows.append(["cost per million", *(cost(side.run.cost_per_million) for side in sides)])
        rows.append(["relative cost", *(times(side.relative_cost) for side in sides)])
    return [[_printable(cell) for cell in row] for row in rows]


def _table(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for number in (0, *columns):
        table.add_column(rows[0][number], justify="right" if number else "left", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*(row[number] for number in (0, *columns)))
    return table


def _printable(text: str) -> str:
    """Without what a terminal would act on: names and addresses come out of files."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
