import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from visionserve.cortex import metrics
from visionserve.child import Child
from visionserve.cortex.host import FAREWELL, GRACE
from visionserve.cortex.in_flight import InFlight
from visionserve.cortex.settings import RunSettings
from visionserve.errors import DeploymentError
from visionserve.inference.model_server import ServerSettings

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
QUICK_DEATH = 10.0
CLOSE_TIMEOUT = 5.0
MAX_RESTART_DELAY = 10.0


class Replica:
    """A model server and its HTTP workers; what dies is started again."""

    def __init__(self, run: RunSettings, listener: socket.socket, log: Callable[[str], None]) -> None:
        self._run = run
        self._listener = listener
        self._log = log
        self._workers = run.spec.predictor.processes_per_replica
        self._in_flight = InFlight.create(run.in_flight, self._workers)
        self._children: dict[str, Child] = {}
        self._starters: dict[str, Callable[[], Awaitable[Child]]] = {}
        self._keepers: list[asyncio.Task] = []
        self._stopping = False
        self.restarts = 0

    async def start(self) -> None:
        """Starts all processes and waits until they are ready. Raises DeploymentError, with none left, if one fails."""
        run = self._run
        run.metrics.mkdir(parents=True, exist_ok=True)
        if run.models:
            server = ServerSettings(
                address=run.model_address, models=run.models, grace=GRACE, casualties=run.casualties
            )
            run.model_server_file.write_text(server.model_dump_json())
            self._starters[MODEL_SERVER] = self._start_model_server
        for slot in range(self._workers):
            self._starters[f"worker {slot}"] = self._worker_starter(slot)
        try:
            for name, starter in self._starters.items():
                self._children[name] = await starter()
            waits = [asyncio.create_task(child.wait_ready(run.start_timeout)) for child in self._children.values()]
            try:
                await asyncio.gather(*waits)
            finally:
                for wait in waits:
                    wait.cancel()
        except (DeploymentError, OSError, asyncio.CancelledError):
            await asyncio.gather(*(child.stop(grace=1) for child in self._children.values()))
            raise

    async def go(self) -> None:
        """Lets the workers take requests, and keeps all processes alive from now on."""
        for name, child in self._children.items():
            await child.go()
            self._keepers.append(asyncio.create_task(self._keep(name)))

    async def close(self) -> None:
        """Returns when no worker takes a new connection any more, or after CLOSE_TIMEOUT seconds."""
        if self._stopping:
            return
        self._stopping = True
        closes = [asyncio.create_task(worker.close()) for worker in self._running_workers()]
        if closes:
            _, late = await asyncio.wait(closes, timeout=CLOSE_TIMEOUT)
            for close in late:
                close.cancel()

    async def drain(self) -> None:
        """After `close`: what is in flight is answered, then every process ends."""
        await asyncio.gather(*(worker.stop(GRACE + FAREWELL + 1) for worker in self._running_workers()))
        if server := self._children.get(MODEL_SERVER):
            await server.stop(GRACE)
        await asyncio.gather(*self._keepers, return_exceptions=True)

    def _running_workers(self) -> list[Child]:
        return [child for name, child in self._children.items() if name != MODEL_SERVER]

    def status(self) -> dict[str, Any]:
        processes = {name: child.pid for name, child in self._children.items()}
        missing = [name for name in self._starters if name not in self._children]
        return {
            "status": "stopping" if self._stopping else "restarting" if missing else "live",
            "processes": processes,
            "restarts": self.restarts,
            "in_flight": self._in_flight.total(),
        }

    async def _keep(self, name: str) -> None:
        delay = 0.0
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            child = self._children[name]
            code = await child.wait()
            self._forget(name, child)
            while not self._stopping:
                self.restarts += 1
                self._log(f"supervisor: {name} (process {child.pid}) ended with code {code}; starting it again")
                delay = 0.0 if loop.time() - started > QUICK_DEATH else min(max(2 * delay, 0.25), MAX_RESTART_DELAY)
                await asyncio.sleep(delay)
                started = loop.time()
                if await self._revive(name):
                    break
            if self._stopping:
                if revived := self._children.get(name):
                    await revived.stop(grace=1)
                return

    async def _revive(self, name: str) -> bool:
        child = None
        try:
            child = await self._starters[name]()
            await child.wait_ready(self._run.start_timeout)
            await child.go()
        except (DeploymentError, OSError) as error:
            self._log(f"supervisor: {name} did not start: {error}")
            if child is not None:
                await child.stop(grace=1)
            return False
        self._children[name] = child
        self._log(f"supervisor: {name} is back (process {child.pid})")
        return True

    def _forget(self, name: str, child: Child) -> None:
        del self._children[name]
        if name.startswith("worker "):
            self._in_flight.clear(int(name.removeprefix("worker ")))
            metrics.forget_process(self._run.metrics, child.pid)

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
