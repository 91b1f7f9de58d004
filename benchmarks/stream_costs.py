"""CPU time and resident memory of a Flink cluster and the job on it, by what each process is."""

import time
from dataclasses import dataclass, field

import psutil

KINDS = {
    "StandaloneSessionClusterEntrypoint": "job manager",
    "TaskManagerRunner": "task managers",
    "beam_boot": "Python workers",
    "PythonGatewayServer": "client's Java",
    "visionserve.streaming": "client",
}


@dataclass
class Costs:
    """`at`: seconds since the epoch; `images`: done by then; `cpu_s`: (kind, process id) -> CPU time; `mib`: kind ->
    resident memory."""

    at: float
    images: int
    cpu_s: dict[tuple[str, int], float] = field(default_factory=dict)
    mib: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS.values(), 0.0))

    @classmethod
    def of(cls, images: int, processes: list[psutil.Process]) -> "Costs":
        costs = cls(time.time(), images)
        for process in processes:
            try:
                words = " ".join(process.cmdline())
                kind = next((kind for word, kind in KINDS.items() if word in words), None)
                if kind is not None:
                    costs.cpu_s[kind, process.pid] = sum(process.cpu_times()[:2])
                    costs.mib[kind] += process.memory_info().rss / 2**20
            except psutil.NoSuchProcess:
                continue
        return costs


def cpu_ms_per_image(first: Costs, last: Costs) -> dict[str, float]:
    """Kind of process -> CPU ms of one image between the two, of processes that lived all the while."""
    spent = dict.fromkeys(KINDS.values(), 0.0)
    for (kind, pid), before in first.cpu_s.items():
        after = last.cpu_s.get((kind, pid), before)
        spent[kind] += 1000 * (after - before) / (last.images - first.images)
    return spent
