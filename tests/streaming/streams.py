import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.conftest import MODEL, run

# Of one run on an embedded cluster, Java's start and the model's load included; a busy machine takes minutes.
SECONDS = 300
# The command, which stands still where it would call a function of visionserve.streaming, its first argument.
HELD = """
import importlib, sys, time
from visionserve.streaming.command import stream
module, name = sys.argv.pop(1).split(".")
setattr(importlib.import_module(f"visionserve.streaming.{module}"), name, lambda *_: time.sleep(1000))
stream()
"""
# Reads a folder as others do it: what is no Parquet file among those it looks at ends it.
READ = """
import json, sys
from pyarrow import parquet
table = parquet.read_table(sys.argv[1])
print(json.dumps({"top5": str(table.schema.field("top5").type), "rows": table.to_pylist()}))
"""


def stream(python: Path | str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command, with the real model, to its end."""
    return run(command(python, *arguments), timeout=SECONDS, **options)


def started_stream(python: Path, *arguments: object, held: str = "", **options: Any) -> "subprocess.Popen[str]":
    """The command with the real model; it dies with the test run, and Flink with it. `held`: see HELD."""
    words = command(python, *arguments)
    if held:
        words[1:3] = ["-c", HELD, held]
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def command(python: Path | str, *arguments: object) -> list[str]:
    model = ["--checkpointPath", MODEL] if "--checkpointPath" not in arguments else []
    return [str(each) for each in (python, "-m", "visionserve.streaming", *model, "--threads", 1, *arguments)]


def lines(folder: Path) -> list[dict[str, Any]]:
    """The rows of a folder, in which there must be finished files only."""
    rows = []
    for name in sorted(os.listdir(folder)):
        assert name.startswith("part-")
        assert name.endswith(".jsonl")
        rows += [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return rows


def parquet_rows(python: Path, folder: Path) -> dict[str, Any]:
    """`rows` of a folder, and the type of their `top5`."""
    return json.loads(subprocess.check_output([python, "-c", READ, folder], text=True))
