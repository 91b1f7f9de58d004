"""How the log of an API looks: lines for people, or one JSON object a line for a log shipper."""

import io
import json
import logging
import re
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Literal

import orjson

from visionserve.log_lines import LineFormatter, escaped, log_to
from visionserve.request_id import request_id

LogFormat = Literal["text", "json"]
# A worker's JSON is told from what a predictor prints by the record separator before it (RFC 7464).
RECORD = "\x1e"
_LEVEL = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) ")


def record(fields: dict[str, Any]) -> str:
    """A worker's line of JSON for the supervisor."""
    return RECORD + orjson.dumps(fields).decode()


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


class WorkerJson(logging.Formatter):
    def format(self, entry: logging.LogRecord) -> str:
        fields = {"time": now(), "level": entry.levelname, "message": entry.getMessage().rstrip()}
        if known := request_id.get():
            fields["request_id"] = known
        if entry.exc_info:
            fields["trace"] = self.formatException(entry.exc_info)
        return record(fields)


def log_to_stdout(form: LogFormat) -> None:
    """A worker's log lines: to its supervisor, who copies them to the log of the API."""
    log_to(sys.stdout, WorkerJson() if form == "json" else LineFormatter())
    logging.getLogger().setLevel(logging.INFO)


class LogStream(io.TextIOBase):
    """A text stream whose lines are logged."""

    def __init__(self, log: Callable[[str], None]) -> None:
        super().__init__()
        self._log = log
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._log(line)
        return len(text)


class ApiLogText(logging.Formatter):
    """`time process: line`. `redact`: takes secrets out of a line."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")
        self._redact = redact

    def format(self, entry: logging.LogRecord) -> str:
        return escaped(self._redact(super().format(entry)))


class ApiLogJson(logging.Formatter):
    """An object with `time`, `process`, `level`, `message` of each line, and with more fields of a worker's own."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def format(self, entry: logging.LogRecord) -> str:
        process, _, text = super().format(entry).partition(": ")
        # In ASCII: Unicode has line breaks and control characters of its own.
        return json.dumps({"process": process, **{name: self._safe(value) for name, value in _fields(text).items()}})

    def _safe(self, value: Any) -> Any:
        return self._redact(value) if isinstance(value, str) else value


def _fields(text: str) -> dict[str, Any]:
    if text.startswith(RECORD):
        try:
            found = orjson.loads(text[1:])
        except orjson.JSONDecodeError:
            found = None
        if isinstance(found, dict):
            return found
    level = _LEVEL.match(text)
    return {"time": now(), "level": level[1] if level else "INFO", "message": text[level.end() :] if level else text}


def api_log_formatter(form: LogFormat, redact: Callable[[str], str]) -> logging.Formatter:
    return ApiLogJson(redact) if form == "json" else ApiLogText(redact)
