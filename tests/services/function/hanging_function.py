"""`visionserve function` with less time for its end, and the fake engine of hanging_server.py."""

import sys

from tests.inference.hanging_server import HangingEngine
from visionserve.inference import served_model
from visionserve.log_lines import log_to_stderr
from visionserve.services.function import server

GRACE, END_SECONDS = 1.0, 6.0


def hanging(*arguments):
    return HangingEngine()


if __name__ == "__main__":
    served_model.load_engine = hanging
    server.GRACE, server.END_SECONDS = GRACE, END_SECONDS
    log_to_stderr()
    server.run(f"127.0.0.1:{sys.argv[1]}")
