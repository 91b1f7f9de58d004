import asyncio
from collections import deque
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from visionserve.inference.engine import Arrays, Engine

# Larger batches gain nothing on a CPU (docs/measurements.md) and make every request in them wait for the last.
ADAPTIVE_BATCH_SIZE = 4


@dataclass
class _Request:
    inputs: Arrays
    rows: int
    shapes: tuple
    arrived: float
    answer: asyncio.Future = field(repr=False)


class Batcher:
    """Joins requests that arrive while the engine is busy into one inference.

    Without an interval it never waits for company: an idle engine takes what there is. With one, a request waits
    for more until the batch is full or the interval (seconds) is over. First come, first served; a request whose
    caller gave up is dropped; when a batch fails, its requests run one by one, so that only the bad one fails.
    """

    def __init__(
        self,
        engine: Engine,
        executor: Executor,
        max_batch_size: int | None = None,
        batch_interval: float = 0.0,
    ) -> None:
        self._engine = engine
        self._executor = executor
        self._max_rows = max_batch_size or ADAPTIVE_BATCH_SIZE
        self._interval = batch_interval
        self._queue: deque[_Request] = deque()
        self._free = engine.slots
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task] = set()

    async def infer(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """inputs: name -> array [N, ...] that the engine's signature accepts; gives name -> array [N, ...]."""
        loop = asyncio.get_running_loop()
        rows = max((array.shape[0] for array in inputs.values() if array.ndim), default=1)
        shapes = tuple((name, array.shape[1:]) for name, array in sorted(inputs.items()))
        request = _Request(inputs, rows, shapes, loop.time(), loop.create_future())
        self._queue.append(request)
        self._dispatch()
        return await request.answer

    def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while self._free:
            while self._queue and self._queue[0].answer.done():
                self._queue.popleft()
            if not self._queue:
                return
            batch = self._fitting()
            due = batch[0].arrived + self._interval
            if sum(request.rows for request in batch) < self._max_rows and loop.time() < due:
                if self._timer is None:
                    self._timer = loop.call_at(due, self._on_timer)
                return
            for request in batch:
                self._queue.remove(request)
            self._free -= 1
            task = loop.create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _on_timer(self) -> None:
        self._timer = None
        self._dispatch()

    def _fitting(self) -> list[_Request]:
        first = self._queue[0]
        batch, rows = [first], first.rows
        for request in islice(self._queue, 1, None):
            if request.answer.done():
                continue
            if request.shapes != first.shapes or rows + request.rows > self._max_rows:
                break
            batch.append(request)
            rows += request.rows
        return batch

    async def _run(self, batch: list[_Request]) -> None:
        try:
            try:
                answers = await self._infer(batch)
            except Exception as error:  # noqa: BLE001 - whatever an engine raises belongs to its caller
                answers = [error] if len(batch) == 1 else [await self._alone(request) for request in batch]
            for request, answer in zip(batch, answers, strict=True):
                if request.answer.done():
                    continue
                if isinstance(answer, Exception):
                    request.answer.set_exception(answer)
                else:
                    request.answer.set_result(answer)
        finally:
            self._free += 1
            self._dispatch()

    async def _alone(self, request: _Request) -> dict[str, np.ndarray] | Exception:
        try:
            return (await self._infer([request]))[0]
        except Exception as error:  # noqa: BLE001 - as above
            return error

    async def _infer(self, batch: list[_Request]) -> list:
        if len(batch) == 1:
            inputs: Arrays = batch[0].inputs
        else:
            inputs = {name: np.concatenate([r.inputs[name] for r in batch]) for name in batch[0].inputs}
        outputs = await asyncio.get_running_loop().run_in_executor(self._executor, self._engine.infer, inputs)
        if len(batch) == 1:
            return [outputs]
        answers, start = [], 0
        for request in batch:
            end = start + request.rows
            answers.append({name: array[start:end] for name, array in outputs.items()})
            start = end
        return answers
