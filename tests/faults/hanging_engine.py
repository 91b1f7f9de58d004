"""A fake engine for the model server of a deployment. Importing this module makes it the one that is loaded.

The first values of its images say what it does with a batch. It answers with the first value of each image.
"""

import ctypes
import os
import signal
import time
from itertools import count
from pathlib import Path

import numpy as np

from visionserve.inference import served_model
from visionserve.inference.null_engine import NullEngine

HANGS = 13
SLOW_AT_A_NEW_SHAPE = 14
SLOW = 15
# A new shape may take ten times as long: far longer than SLOW_SECONDS.
SECONDS_OF_THE_FIRST = 1.0
# Longer than any batch may take that nothing is known of.
SLOW_SECONDS = 3.5
FOLDER = "VISIONSERVE_TEST_FOLDER"


class HangingEngine(NullEngine):
    slots = 2

    def __init__(self) -> None:
        super().__init__()
        self._batches = count()

    def infer(self, inputs):
        firsts = inputs["input"][:, 0, 0, 0]
        if next(self._batches) == 0:
            time.sleep(SECONDS_OF_THE_FIRST)
        elif (firsts == HANGS).any():
            hang()
        elif firsts[0] == SLOW_AT_A_NEW_SHAPE:
            time.sleep(SLOW_SECONDS)
        elif firsts[0] == SLOW:
            time.sleep(SLOW_SECONDS / 64 * len(firsts))
        else:
            time.sleep(0.02 * len(firsts))
        return {"output": np.repeat(firsts[:, None], 1000, axis=1).astype(np.float32)}


def hang() -> None:
    """Another kind each time that a process comes here: waiting, waiting with the interpreter's lock, stopped."""
    hangs = Path(os.environ[FOLDER], "hangs")
    with open(hangs, "a") as file:
        file.write(".")
    match len(hangs.read_text()) % 3:
        case 1:
            time.sleep(1000)
        case 2:
            ctypes.PyDLL(None).sleep(1000)
        case 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            # The signal stops this thread, but perhaps not in this line.
            time.sleep(1000)


served_model.load_engine = lambda *arguments: HangingEngine()
