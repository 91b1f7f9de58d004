"""How a process of ours logs: one line a record, with the request's id, no secret and nothing that forges a line."""

import logging
import re
import sys
from typing import TextIO

from visionserve.redaction import redacted
from visionserve.request_id import request_id

# The C0 and C1 controls but the tab, and Unicode's own line breaks.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def escaped(text: str) -> str:
    """`text` on one line, harmless to a terminal: control characters as Python writes them."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


class LineFormatter(logging.Formatter):
    """`LEVEL [request id] message`, a trace indented below it, so that no part of it looks like a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        known = request_id.get()
        line = f"{record.levelname} {f'[{known}] ' if known else ''}{escaped(redacted(record.getMessage().rstrip()))}"
        if record.exc_info:
            trace = redacted(self.formatException(record.exc_info))
            line += "".join(f"\n    {escaped(part)}" for part in trace.splitlines())
        return line


def log_to(stream: TextIO, formatter: logging.Formatter | None = None) -> None:
    """What visionserve logs from INFO on, and everything else from WARNING on, goes to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter or LineFormatter())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("visionserve").setLevel(logging.INFO)


def log_to_stderr() -> None:
    log_to(sys.stderr)
