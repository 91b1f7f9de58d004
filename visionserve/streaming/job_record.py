from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RUNNING = "RUNNING"
# Of a task, before the first picture can come: see ExecutionState in Flink's sources.
SETTING_UP = ("CREATED", "SCHEDULED", "DEPLOYING", "INITIALIZING")


@dataclass
class Attempt:
    """One life of a subtask. Times in seconds since the epoch: from `start` it was set up, from `ready` it ran, and at
    `end` it ended or was last seen. `state`: as Flink has it; `images`: those that it took or gave."""

    vertex: str
    subtask: int
    number: int
    worker: str
    start: float
    ready: float
    end: float
    state: str
    images: int


@dataclass(frozen=True)
class Checkpoint:
    """`triggered`: in seconds since the epoch; `seconds`: until the last task's answer; `state`: Flink's name."""

    triggered: float
    seconds: float
    state: str


@dataclass
class JobRecord:
    """What was seen of a Flink job, one sample of its REST API after the other.

    https://nightlies.apache.org/flink/flink-docs-stable/docs/ops/rest_api/. `counts`: (seconds since the epoch, images
    of all attempts so far), one for each sample: what is done again after a failure counts again. `failures`: seconds
    since the epoch -> the first line of the reason.
    """

    operator: str
    name: str = ""
    state: str = ""
    start: float = 0.0
    attempts: dict[tuple[str, int, int], Attempt] = field(default_factory=dict)
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)
    failures: dict[float, str] = field(default_factory=dict)
    counts: list[tuple[float, int]] = field(default_factory=list)

    def observe(
        self,
        job: Mapping[str, Any],
        vertices: list[Mapping[str, Any]],
        checkpoints: Mapping[str, Any],
        exceptions: Mapping[str, Any],
    ) -> None:
        """The answers to /jobs/:jobid, to its /vertices/:vertexid for each, to its /checkpoints and /exceptions."""
        self.name, self.state, self.start = job["name"], job["state"], job["start-time"] / 1000
        for vertex in vertices:
            for subtask in vertex["subtasks"]:
                self._observe_subtask(vertex, subtask)
        # The history is of the last ten, which may all be failures.
        for each in [*checkpoints.get("history", []), checkpoints.get("latest", {}).get("completed")]:
            if each is not None:
                self.checkpoints[each["id"]] = Checkpoint(
                    each["trigger_timestamp"] / 1000, each["end_to_end_duration"] / 1000, each["status"]
                )
        for entry in exceptions["exceptionHistory"]["entries"]:
            reason = entry["stacktrace"].split("\n", 1)[0]
            self.failures[entry["timestamp"] / 1000] = reason.removeprefix(f"{entry['exceptionName']}: ")
        self.counts.append((job["now"] / 1000, self.images))

    @property
    def images(self) -> int:
        return sum(attempt.images for attempt in self.classifying())

    def classifying(self) -> list[Attempt]:
        """The attempts of the vertex with the operator; of the last vertex where none has it."""
        names = list(dict.fromkeys(attempt.vertex for attempt in self.attempts.values()))
        named = [name for name in names if self.operator.lower() in name.lower()] or names[-1:]
        return [attempt for attempt in self.attempts.values() if attempt.vertex in named]

    def _observe_subtask(self, vertex: Mapping[str, Any], subtask: Mapping[str, Any]) -> None:
        start = subtask["start-time"] / 1000
        if start <= 0:
            return
        spent = subtask.get("status-duration", {})
        set_up = sum(max(0, spent.get(state, 0)) for state in SETTING_UP) / 1000
        seen = vertex["now"] / 1000
        end = subtask["end-time"] / 1000 if subtask["end-time"] > 0 else seen
        key = (vertex["id"], subtask["subtask"], subtask["attempt"])
        before = self.attempts.get(key)
        metrics = subtask["metrics"]
        # A vertex that begins with the source reads nothing, and one that ends with the sink may write nothing. Those
        # of a lost worker are 0 again.
        images = max(metrics["read-records"], metrics["write-records"], before.images if before else 0)
        worker = subtask.get("taskmanager-id") or subtask.get("endpoint", "")
        ready = min(end, start + set_up)
        self.attempts[key] = Attempt(
            vertex["name"], key[1], key[2], worker, start, ready, end, subtask["status"], images
        )
