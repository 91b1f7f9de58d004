import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from visionserve import metrics_folder
from visionserve.child import Child
from visionserve.cortex.host import END_SECONDS, GRACE, MODEL_SERVER
from visionserve.cortex.in_flight import InFlight
from visionserve.cortex.metrics import ProcessMetrics
from visionserve.cortex.settings import RunSettings
from visionserve.errors import DeploymentError
from visionserve.inference.model_server import ServerSettings
from visionserve.keeper import Keeper
from visionserve.pulse import Pulse
from visionserve.watchdog import Watchdog

# One decode thread per core is enough: OpenMP's and BLAS's own would multiply them. Two arenas keep glibc from holding
# a heap per thread, and the thresholds keep it from asking the kernel for the memory of each picture anew.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "4194304",
    "MALLOC_TRIM_THRESHOLD_": "4194304",
}
CLOSE_TIMEOUT = 5.0
# Seconds for which an event loop may stand still before its process is killed. A predictor runs on threads of its own,
# but a library that it calls may keep the interpreter's lock for a while.
WORKER_HEART_LIMIT, MODEL_SERVER_HEART_LIMIT = 10.0, 3.0


class Replica:
    """A model server and its HTTP workers; what dies or hangs is started again."""

    def __init__(self, run: RunSettings, listener: socket.socket, log: Callable[[str], None]) -> None:
        self._run = run
        self._listener = listener
        self._log = log
        self._workers = run.spec.predictor.processes_per_replica
        self._in_flight = InFlight.create(run.in_flight, self._workers)
        self._model_server: Keeper | None = None
        self._keepers: list[Keeper] = []
        self._stopping = False
        self._end = 0.0
        self._metrics = ProcessMetrics()
        self._watchdog = Watchdog(self._say)
        self._watching: asyncio.Task | None = None

    async def start(self) -> None:
        """Starts all processes and waits until they are ready. Raises DeploymentError, with none left, if one fails."""
        run = self._run
        if run.models:
            server = ServerSettings(
                address=run.model_address,
                models=run.models,
                grace=GRACE,
                casualties=run.casualties,
                pulse=run.pulse(MODEL_SERVER),
                metrics=run.metrics,
            )
            run.model_server_file.write_text(server.model_dump_json())
            self._model_server = self._keep(
                MODEL_SERVER, self._start_model_server, self._forget, MODEL_SERVER_HEART_LIMIT
            )
        for slot in range(self._workers):
            self._keep(f"worker {slot}", self._worker_starter(slot), self._forgetter(slot), WORKER_HEART_LIMIT)
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
        self._watching = asyncio.create_task(self._watchdog.run())

    async def close(self) -> None:
        """Returns when no worker takes a new connection any more, or after CLOSE_TIMEOUT seconds."""
        if self._stopping:
            return
        self._stopping = True
        self._end = time.monotonic() + END_SECONDS
        # The model server is kept: what is in flight in the workers may need it.
        for keeper in self._worker_keepers():
            keeper.release()
        workers = [keeper.child for keeper in self._worker_keepers() if keeper.child]
        closes = [asyncio.create_task(worker.close()) for worker in workers]
        if closes:
            _, late = await asyncio.wait(closes, timeout=CLOSE_TIMEOUT)
            for close in late:
                close.cancel()

    async def drain(self) -> None:
        """After `close`: what is in flight is answered, then every process ends, END_SECONDS after it at the latest."""
        await asyncio.gather(*(keeper.stop(self._left()) for keeper in self._worker_keepers()))
        if self._model_server:
            await self._model_server.stop(self._left())
        if self._watching:
            self._watching.cancel()

    def _left(self) -> float:
        return max(1.0, self._end - time.monotonic())

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

    def _keep(
        self,
        name: str,
        starter: Callable[[], Awaitable[Child]],
        forget: Callable[[Child], None],
        heart_limit: float,
    ) -> Keeper:
        pulse = Pulse.create(self._run.pulse(name))

        async def start() -> Child:
            self._metrics.start(name)
            pulse.clear()
            return await starter()

        keeper = Keeper(name, start, self._run.start_timeout, self._say, forget)
        self._keepers.append(keeper)
        self._watchdog.watch(keeper, pulse, heart_limit)
        return keeper

    def _say(self, line: str) -> None:
        self._log(f"supervisor: {line}")

    def _forget(self, child: Child) -> None:
        metrics_folder.absorb(self._run.metrics, child.pid)

    def _forgetter(self, slot: int) -> Callable[[Child], None]:
        def forget(child: Child) -> None:
            self._in_flight.clear(slot)
            self._forget(child)

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
