"""The engine without a stream: as many processes as the stream has tasks, each of as many threads."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType

from bare import BareEngine
from load import LoadError


class BareEngines:
    """Each has cores of its own: OpenVINO pins its threads from the first core on that its process may use."""

    def __init__(self, processes: int, threads: int) -> None:
        if (cores := len(os.sched_getaffinity(0))) < processes * threads:
            raise LoadError(f"this needs {processes * threads} cores, and this process may use {cores}")
        self._engines = [BareEngine("openvino") for _ in range(processes)]
        self._threads = threads
        self._stack = ExitStack()

    def __enter__(self) -> "BareEngines":
        cores = os.sched_getaffinity(0)
        free = sorted(cores)
        try:
            for engine in self._engines:
                mine, free = free[: self._threads], free[self._threads :]
                # A process that this one starts may use the same.
                os.sched_setaffinity(0, mine)
                self._stack.enter_context(engine)
        finally:
            os.sched_setaffinity(0, cores)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def images_per_s(self, batch: int, seconds: float) -> float:
        """Of all of them together."""
        with ThreadPoolExecutor(len(self._engines)) as threads:
            return sum(threads.map(lambda engine: engine.images_per_s(batch, seconds), self._engines))
