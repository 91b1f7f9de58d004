import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from visionserve.child import Child
from visionserve.cortex import metrics
from visionserve.cortex.host import FAREWELL, GRACE
from visionserve.cortex.in_flight import InFlight
from visionserve.cortex.settings import RunSettings
from visionserve.errors import DeploymentError
from visionserve.inference.model_server import ServerSettings
from visionserve.keeper import Keeper

# One decode thread per core is enough: OpenMP's and BLAS's own would multiply them. Two arenas keep glibc from holding
# a heap per thread, and the thresholds keep it from asking the kernel for the memory of each picture anew.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    "MALLOC_TRIM_THRESHOLD_": "4194304",
}
MODEL_SERVER = "model server"
CLOSE_TIMEOUT = 5.0


class Replica:
    """A model server and its HTTP workers; what dies is started again."""

    def __init__(self, run: RunSettings, listener: socket.socket, log: Callable[[str], None]) -> None:
        self._run = run
        self._listener = listener
        self._log = log
        self._workers = run.spec.predictor.processes_per_replica
        self._in_flight = InFlight.create(run.in_flight, self._workers)
        self._model_server: Keeper | None = None
        self._keepers: list[Keeper] = []
        self._stopping = False

    async def start(self) -> None:
        """Starts all processes and waits until they are ready. Raises DeploymentError, with none left, if one fails."""
        run = self._run
        run.metrics.mkdir(parents=True, exist_ok=True)
        if run.models:
            server = ServerSettings(
                address=run.model_address, models=run.models, grace=GRACE, casualties=run.casualties
            )
            run.model_server_file.write_text(server.model_dump_json())
            self._model_server = self._keeper(MODEL_SERVER, self._start_model_server)
            self._keepers.append(self._model_server)
        for slot in range(self._workers):
            self._keepers.append(self._keeper(f"worker {slot}", self._worker_starter(slot), self._forgetter(slot)))
        try:
            for keeper in self._keepers:
                await keeper.start()
            waits = [asyncio.create_task(keeper.wait_ready()) for keeper in self._keepers]
            try:
                await asyncio.gather(*waits)
            finally:
                for wait in waits:
                    wait.cancel()
        except (DeploymentError, OSError, asyncio.CancelledError):
            await asyncio.gather(*(keeper.stop(grace=1) for keeper in self._keepers))
            raise

    async def go(self) -> None:
        """Lets the workers take requests, and keeps all processes alive from now on."""
        for keeper in self._keepers:
            await keeper.go()

    async def close(self) -> None:
        """Returns when no worker takes a new connection any more, or after CLOSE_TIMEOUT seconds."""
        if self._stopping:
            return
        self._stopping = True
        for keeper in self._keepers:
            keeper.release()
        workers = [keeper.child for keeper in self._worker_keepers() if keeper.child]
        closes = [asyncio.create_task(worker.close()) for worker in workers]
        if closes:
            _, late = await asyncio.wait(closes, timeout=CLOSE_TIMEOUT)
            for close in late:
                close.cancel()

    async def drain(self) -> None:
        """After `close`: what is in flight is answered, then every process ends."""
        await asyncio.gather(*(keeper.stop(GRACE + FAREWELL + 1) for keeper in self._worker_keepers()))
        if self._model_server:
            await self._model_server.stop(GRACE)

    def _worker_keepers(self) -> list[Keeper]:
        return [keeper for keeper in self._keepers if keeper is not self._model_server]

    def status(self) -> dict[str, Any]:
        processes = {keeper.name: keeper.child.pid for keeper in self._keepers if keeper.child}
        missing = len(processes) < len(self._keepers)
        return {
            "status": "stopping" if self._stopping else "restarting" if missing else "live",
            "processes": processes,
            "restarts": sum(keeper.restarts for keeper in self._keepers),
            "in_flight": self._in_flight.total(),
        }

    def _keeper(
        self, name: str, starter: Callable[[], Awaitable[Child]], forget: Callable[[Child], None] = lambda child: None
    ) -> Keeper:
        def log(line: str) -> None:
            self._log(f"supervisor: {line}")

        return Keeper(name, starter, self._run.start_timeout, log, forget)

    def _forgetter(self, slot: int) -> Callable[[Child], None]:
        def forget(child: Child) -> None:
            self._in_flight.clear(slot)
            metrics.forget_process(self._run.metrics, child.pid)

        return forget

    async def _start_model_server(self) -> Child:
        module = "visionserve.inference.model_server"
        return await Child.start(MODEL_SERVER, module, [str(self._run.model_server_file)], self._log)

    def _worker_starter(self, slot: int) -> Callable[[], Awaitable[Child]]:
        async def start() -> Child:
            arguments = [str(self._run.file), "--slot", str(slot), "--listener", str(self._listener.fileno())]
            return await Child.start(
                f"worker {slot}",
                "visionserve.cortex.host",
                arguments,
                self._log,
                WORKER_ENVIRONMENT,
                [self._listener.fileno()],
            )

        return start
