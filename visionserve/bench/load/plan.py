from dataclasses import dataclass, replace

from visionserve.bench.load.pacing import Pacer
from visionserve.bench.transport.endpoint import Endpoint
from visionserve.bench.workload.workload import Workload


@dataclass(frozen=True)
class Plan:
    """A whole run: up to `workers` processes share `clients` connections and send `workload` as `pacer` says."""

    workload: Workload
    pacer: Pacer
    workers: int
    clients: int
    timeout_s: float

    @property
    def endpoint(self) -> Endpoint:
        return self.workload.endpoint

    @property
    def processes(self) -> int:
        return min(self.workers, self.clients)

    def clients_of(self, worker: int) -> range:
        """The numbers, from 0 of all clients, of those in worker `worker` (from 0)."""
        each, more = divmod(self.clients, self.processes)
        first = worker * each + min(worker, more)
        return range(first, first + each + (worker < more))

    def paced(self, pacer: Pacer, clients: int | None = None) -> "Plan":
        """The same load at another pace."""
        return replace(self, pacer=pacer, clients=self.clients if clients is None else clients)
