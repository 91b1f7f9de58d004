import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from visionserve.errors import InferenceError, OverloadedError, VisionserveError
from visionserve.inference.batch_limit import AdaptiveBatchLimit
from visionserve.inference.casualties import FATAL, Casualties, RunningBatch
from visionserve.inference.engine import Arrays, Engine
from visionserve.inference.metrics import BatchMetrics
from visionserve.inference.time_limit import BatchTimeLimit
from visionserve.inference.tracing import add_stages

Answer = dict[str, np.ndarray] | Exception


@dataclass(eq=False)
class _Request:
    inputs: Arrays
    rows: int
    shapes: tuple
    due: float
    id: str
    alone: bool
    arrived: float
    answer: asyncio.Future = field(repr=False)
    began: float | None = None
    ended: float | None = None
    company: int = 0


class Batcher:
    """Joins requests that arrive while the engine is busy into one inference.

    Without an interval it never waits for company: an idle engine takes what there is. With one, a request waits for
    more until the batch is full or the interval is over. First come, first served; a request whose caller gave up is
    dropped; when a batch fails, its requests run one by one, so that only the bad one fails. A request of more rows
    than a batch may have runs as several batches. Models without an open first dimension are never joined or split.

    The engine's own threads take the next batch from the queue themselves, so that the engine does not stand still
    while the event loop is busy with the answers of the last one.
    """

    def __init__(
        self,
        engine: Engine,
        max_batch_size: int | None = None,
        batch_interval: float = 0.0,
        max_queue: int = 1024,
        name: str = "engine",
        casualties: Casualties | None = None,
        metrics: BatchMetrics | None = None,
        time_limit: BatchTimeLimit | None = None,
    ) -> None:
        """`max_batch_size`: in rows, None to adapt; `batch_interval`: seconds; `max_queue`: waiting requests.

        `time_limit`: what is known already of the time that the engine takes.
        """
        self._engine = engine
        self._fixed = max_batch_size
        self._adaptive = AdaptiveBatchLimit()
        self._batchable = all(spec.shape[:1] == (-1,) for spec in engine.signature.inputs.values())
        self._interval = batch_interval if self._batchable else 0.0
        self._max_queue = max_queue
        self._casualties = casualties
        self._metrics = metrics
        self._time_limit = time_limit or BatchTimeLimit()
        self._queue: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._suspect_runs = False
        pages = casualties.pages(engine.slots) if casualties else []
        self._threads = [
            threading.Thread(target=self._work, args=[page], name=f"{name}-{slot}", daemon=True)
            for slot, page in enumerate(pages or [None] * engine.slots)
        ]
        for thread in self._threads:
            thread.start()

    async def infer(self, inputs: Arrays, request_id: str = "") -> dict[str, np.ndarray]:
        """inputs: name -> array [N, ...] that the engine's signature accepts; gives name -> array [N, ...].

        Raises OverloadedError when the queue is full, InferenceError for a request that has ended the engine's
        process before, and what the engine raises.
        """
        deaths = self._casualties.deaths(request_id) if self._casualties else 0
        if deaths >= FATAL:
            raise InferenceError(f"The engine died {deaths} times with this request; it is not tried again.")
        pieces = self._pieces(inputs)
        answers = [asyncio.get_running_loop().create_future() for _ in pieces]
        arrived = time.monotonic()
        due = arrived + self._interval
        requests = [
            _Request(piece, _rows(piece), _shapes(piece), due, request_id, deaths > 0, arrived, answer)
            for piece, answer in zip(pieces, answers, strict=True)
        ]
        with self._changed:
            if len(self._queue) >= self._max_queue:
                self._drop_given_up()
                if len(self._queue) >= self._max_queue:
                    raise OverloadedError(f"{self._max_queue} requests are waiting for the engine: try again later.")
            self._queue.extend(requests)
            if self._metrics:
                self._metrics.wait(len(requests))
            self._changed.notify(len(requests))
        try:
            if len(answers) == 1:
                return await answers[0]
            outputs = await asyncio.gather(*answers)
        finally:
            for request in requests:
                request.answer.cancel()
                add_stages(request.arrived, request.began, request.ended, request.company)
        return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}

    def close(self) -> None:
        """Answers what is in the queue, then ends the engine's threads, however long one takes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def _max_rows(self) -> int:
        return self._fixed or self._adaptive.rows

    def _pieces(self, inputs: Arrays) -> list[Arrays]:
        rows, limit = _rows(inputs), self._max_rows
        if rows <= limit or not self._batchable:
            return [inputs]
        starts = range(0, rows, limit)
        return [{name: array[start : start + limit] for name, array in inputs.items()} for start in starts]

    def _work(self, page: RunningBatch | None) -> None:
        while batch := self._next_batch():
            started = time.monotonic()
            rows = sum(request.rows for request in batch)
            for request in batch:
                request.began, request.company = started, rows
            if self._metrics:
                self._metrics.take([started - request.arrived for request in batch])
            answers = self._answers(batch, page)
            ended = time.monotonic()
            for request in batch:
                request.ended = ended
            batch[0].answer.get_loop().call_soon_threadsafe(_deliver, batch, answers)
            if self._metrics:
                self._metrics.run(rows, ended - started)
            with self._changed:
                if batch[0].alone:
                    self._suspect_runs = False
                    self._changed.notify_all()
                waiting = sum(request.rows for request in self._queue)
                self._adaptive.observe(rows, ended - started, waiting)
        if page is not None:
            page.close()

    def _next_batch(self) -> list[_Request]:
        """Waits for the next batch to run; empty when the batcher is closed and its queue is empty."""
        with self._changed:
            while True:
                self._drop_given_up()
                if not self._queue:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                if not self._bring_forward():
                    self._changed.wait()
                    continue
                batch = self._fitting()
                left = batch[0].due - time.monotonic()
                if left <= 0 or self._closed or sum(request.rows for request in batch) >= self._max_rows:
                    for _ in batch:
                        self._queue.popleft()
                    self._suspect_runs |= batch[0].alone
                    return batch
                self._changed.wait(left)

    def _drop_given_up(self) -> None:
        if any(request.answer.done() for request in self._queue):
            before = len(self._queue)
            self._queue = deque(request for request in self._queue if not request.answer.done())
            if self._metrics:
                self._metrics.wait(len(self._queue) - before)

    def _bring_forward(self) -> bool:
        """Puts a request first that may run now; False where there is none.

        Two that an engine died with may not run side by side: the innocent one would die of the other, time and again.
        """
        if not (self._suspect_runs and self._queue[0].alone):
            return True
        number = next((number for number, request in enumerate(self._queue) if not request.alone), None)
        if number is None:
            return False
        request = self._queue[number]
        del self._queue[number]
        self._queue.appendleft(request)
        return True

    def _fitting(self) -> list[_Request]:
        first = self._queue[0]
        batch, rows = [first], first.rows
        for request in islice(self._queue, 1, None):
            joins = self._batchable and request.shapes == first.shapes and not (first.alone or request.alone)
            if not joins or rows + request.rows > self._max_rows:
                break
            batch.append(request)
            rows += request.rows
        return batch

    def _answers(self, batch: Sequence[_Request], page: RunningBatch | None) -> Sequence[Answer]:
        try:
            return self._infer(batch, page)
        except Exception as error:  # noqa: BLE001 - whatever an engine raises belongs to its caller
            if len(batch) == 1:
                return [error if isinstance(error, VisionserveError) else _failure(error)]
            return [answer for request in batch for answer in self._answers([request], page)]

    def _infer(self, batch: Sequence[_Request], page: RunningBatch | None) -> Sequence[Answer]:
        if len(batch) == 1:
            return [self._run(batch, batch[0].inputs, page)]
        inputs = {name: np.concatenate([request.inputs[name] for request in batch]) for name in batch[0].inputs}
        outputs = self._run(batch, inputs, page)
        rows = sum(request.rows for request in batch)
        if any(array.shape[:1] != (rows,) for array in outputs.values()):
            raise InferenceError(f"The model gives no answer of its own for each of the {rows} rows of a batch.")
        answers, start = [], 0
        for request in batch:
            end = start + request.rows
            answers.append({name: array[start:end] for name, array in outputs.items()})
            start = end
        return answers

    def _run(self, batch: Sequence[_Request], inputs: Arrays, page: RunningBatch | None) -> dict[str, np.ndarray]:
        if page is None:
            return self._engine.infer(inputs)
        page.begin([request.id for request in batch], self._time_limit.seconds(inputs))
        started = time.monotonic()
        try:
            outputs = self._engine.infer(inputs)
        finally:
            page.end()
        self._time_limit.observe(inputs, time.monotonic() - started)
        return outputs


def _failure(cause: Exception) -> InferenceError:
    error = InferenceError(f"The engine failed on the batch: {type(cause).__name__}: {cause}")
    error.__cause__ = cause
    return error


def _shapes(inputs: Arrays) -> tuple:
    return tuple((name, array.shape[1:]) for name, array in sorted(inputs.items()))


def _rows(inputs: Arrays) -> int:
    return max((array.shape[0] for array in inputs.values() if array.ndim), default=1)


def _deliver(batch: Sequence[_Request], answers: Sequence[Answer]) -> None:
    for request, answer in zip(batch, answers, strict=True):
        if request.answer.done():
            continue
        if isinstance(answer, Exception):
            request.answer.set_exception(answer)
        else:
            request.answer.set_result(answer)
