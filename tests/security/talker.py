"""An API that does with a request what an attacker would like: prints it, logs it, fails with it."""

SOURCE = """
import logging
import os

log = logging.getLogger("talker")


class PythonPredictor:
    def __init__(self, config):
        if config.get("fail"):
            raise RuntimeError("no access with " + os.environ["TALKER_TOKEN"])
        self.key = os.environ.get("CORTEX_API_KEY")

    def predict(self, payload, query_params, headers):
        action = query_params.get("do")
        if action == "print":
            print(payload["text"])
        if action == "log":
            log.warning("it says %s", payload["text"])
        if action == "fail":
            raise ValueError(payload["text"])
        return {"headers": dict(headers), "key": self.key}
"""
