import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from visionserve.errors import DeploymentError, UsageError

TIMEOUT = 10.0
DEFAULT_PORT = 8081
POLL = 0.1
ENDED = {"CANCELED", "FAILED", "FINISHED"}


class FlinkRest:
    """A Flink cluster's REST API. Raises DeploymentError, one sentence, where it does not answer or refuses.

    https://nightlies.apache.org/flink/flink-docs-stable/docs/ops/rest_api/
    """

    def __init__(self, address: str, embedded: bool = False) -> None:
        """`address`: HOST:PORT; `embedded`: the cluster is there for one job and ends with it."""
        self.address = address
        self.url = f"http://{address}"
        self.embedded = embedded
        # A cluster is asked directly, whatever proxy is set for the world outside.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def version(self) -> str:
        return str(self._ask("/config").get("flink-version"))

    def slots_by_host(self) -> Counter[str]:
        """The slots of the task managers that have registered, by the address that they have in the cluster."""
        slots: Counter[str] = Counter()
        for manager in self._ask("/taskmanagers")["taskmanagers"]:
            # For instance pekko.tcp://flink@10.0.0.7:36127/user/rpc/taskmanager_0.
            slots[manager["path"].rpartition("@")[2].rpartition(":")[0]] += manager["slotsNumber"]
        return slots

    def runs(self, job: str) -> bool:
        """Whether the job is known and has not ended."""
        states = {each["jid"]: each["state"] for each in self._ask("/jobs/overview")["jobs"]}
        return states.get(job, "FAILED") not in ENDED

    def failures(self, job: str, since: int = 0) -> dict[int, str]:
        """What made the job start again after `since`, the first one first: milliseconds since the epoch -> stack
        trace. Flink keeps the last ones."""
        entries = self._ask(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
        return {entry["timestamp"]: entry["stacktrace"] for entry in reversed(entries) if entry["timestamp"] > since}

    def checkpoint(self, job: str, seconds: float, given_up: threading.Event) -> bool:
        """Takes a checkpoint now; whether it is complete within `seconds` and before it is given up."""
        deadline = time.monotonic() + seconds
        path = f"/jobs/{job}/checkpoints"
        trigger = self._ask(path, "POST", {"checkpointType": "CONFIGURED"})["request-id"]
        while time.monotonic() < deadline and not given_up.wait(POLL):
            answer = self._ask(f"{path}/{trigger}")
            if answer["status"]["id"] == "COMPLETED":
                return "failureCause" not in answer["operation"]
        return False

    def cancel(self, job: str) -> None:
        self._ask(f"/jobs/{job}?mode=cancel", "PATCH")

    def _ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise DeploymentError(f"{self.url} answers {error.code} to {method} {path}.") from error
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", error)
            raise DeploymentError(
                f"No Flink cluster answers at {self.url} ({why}): start one, or correct -m HOST:PORT."
            ) from error


def read_address(text: str) -> str:
    """HOST:PORT of "HOST", "HOST:PORT" or "http://HOST:PORT". Raises UsageError."""
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError:
        host, port = None, 0
    if not host:
        raise UsageError(f"-m {text} is no address: give HOST:PORT of the cluster's REST API.")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
