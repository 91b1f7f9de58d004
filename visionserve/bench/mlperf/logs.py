import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from visionserve.errors import VisionserveError

SUMMARY = "mlperf_log_summary.txt"
ACCURACY = "mlperf_log_accuracy.json"


@dataclass
class LoadGenSummary:
    """What mlperf_log_summary.txt says, by LoadGen's own names.

    `result` are the scenario's figures, `checks` the conditions of a valid run and whether each was satisfied, `advice`
    what it says about those that were not, `statistics` and `parameters` all else. Times are in the unit of the name.
    """

    verdict: str | None = None
    result: dict[str, float] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)
    statistics: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, float] = field(default_factory=dict)


def read_summary(log_dir: Path) -> LoadGenSummary:
    """Raises VisionserveError when LoadGen left none. A run for accuracy has an empty one."""
    summary, section = LoadGenSummary(), ""
    for line in _lines(log_dir / SUMMARY):
        if line.startswith("==="):
            continue
        name, value = _pair(line)
        if line in ("MLPerf Results Summary", "Additional Stats", "Test Parameters Used"):
            section = line
        elif name == "Result is":
            summary.verdict, section = value, "Checks"
        elif line in ("Recommendations:", "Early Stopping Result:"):
            section = "Advice"
        elif section == "Checks" and name is not None:
            summary.checks[name.removesuffix(" satisfied")] = value
        elif section == "Advice":
            name, value = _pair(line.lstrip(" *"))
            if name is not None and _is_number(value):
                summary.result[f"{name} (ns)"] = float(value)
            else:
                _add_advice(summary.advice, line)
        elif name is not None and _is_number(value):
            figures = {
                "MLPerf Results Summary": summary.result,
                "Additional Stats": summary.statistics,
                "Test Parameters Used": summary.parameters,
            }
            figures.get(section, {})[name] = float(value)
    return summary


def read_accuracy(log_dir: Path) -> dict[int, set[bytes]]:
    """The data that mlperf_log_accuracy.json holds of each image, by index: of some it has more than one answer.

    Raises VisionserveError when LoadGen left none.
    """
    path = log_dir / ACCURACY
    answers: dict[int, set[bytes]] = {}
    try:
        for entry in orjson.loads(path.read_bytes()):
            answers.setdefault(entry["qsl_idx"], set()).add(bytes.fromhex(entry["data"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VisionserveError(f"LoadGen left no {path} that can be read ({error}): run it again.") from error
    return answers


def log_files(log_dir: Path) -> list[str]:
    return sorted(str(path) for path in log_dir.glob("mlperf_log_*") if path.is_file())


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VisionserveError(f"LoadGen left no {path} that can be read ({error}): run it again.") from error


def _pair(line: str) -> tuple[str | None, str]:
    match = re.fullmatch(r"\s*([^:*]+?)\s*:\s*(\S+)\s*", line)
    return (None, "") if match is None else (match[1], match[2])


def _is_number(value: str) -> bool:
    return re.fullmatch(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", value, re.IGNORECASE) is not None


def _add_advice(advice: list[str], line: str) -> None:
    """Sentences begin with a star and may go on in the next line."""
    text = line.strip()
    if text.startswith("*"):
        advice.append(text.lstrip("* "))
    elif text and advice:
        advice[-1] += f" {text}"
