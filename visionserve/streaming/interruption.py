"""Ctrl-C and SIGTERM: they raise KeyboardInterrupt, and once there may be a job, are noted to have it canceled."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Py4J's, on the root logger, with a traceback.
LOGGED = "KeyboardInterrupt while sending command."


@contextmanager
def raised_once() -> Iterator[None]:
    """The first of them raises KeyboardInterrupt in the block; those after it must not keep that from cleaning up."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    def is_news(record: logging.LogRecord) -> bool:
        return record.msg != LOGGED

    logging.getLogger().addFilter(is_news)
    try:
        with _handled(interrupt):
            yield
    finally:
        logging.getLogger().removeFilter(is_news)


@contextmanager
def noted() -> Iterator[threading.Event]:
    """Set by each of them during the block, in which they do nothing else."""
    interrupted = threading.Event()

    def interrupt(signum: int, frame: FrameType | None) -> None:
        interrupted.set()

    with _handled(interrupt):
        yield interrupted


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
