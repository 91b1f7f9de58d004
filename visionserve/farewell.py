"""The end of a process that cannot end by itself."""

import logging
import os
import sys
import threading

from visionserve import tracing

log = logging.getLogger("visionserve")


def leave_after(seconds: float) -> None:
    """Ends this process then, with exit code 1, a line in its log and its last spans, if it still runs.

    For a process that is to end: a thread inside an engine can be neither ended nor left behind in another way.
    """
    timer = threading.Timer(seconds, _leave, [seconds])
    timer.daemon = True
    timer.start()


def _leave(seconds: float) -> None:
    log.error("%g s after the signal to end, an engine or a thread still runs: this process ends without it", seconds)
    tracing.stop()
    sys.stdout.flush()
    os._exit(1)
