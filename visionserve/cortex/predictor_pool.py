import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from visionserve.cortex import payload
from visionserve.cortex.predictor import Predictor
from visionserve.cortex.responses import response_of
from visionserve.cortex.tracing import traced_predict

# What steers threads, futures and coroutines is from a predictor an error as any other. A future does not even take a
# StopIteration, and its request would never be answered.
STEERING = (StopIteration, GeneratorExit, KeyboardInterrupt, SystemExit, asyncio.CancelledError, FutureCancelledError)

log = logging.getLogger("visionserve")


class PredictorPool:
    """A predictor and the threads that may call it at once."""

    def __init__(self, predictor: Predictor, threads: int) -> None:
        self._predictor = predictor
        self._size = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self._working = 0
        self._behind: set[Future[None]] = set()

    def load(self) -> int:
        """Requests that are worked on or wait for a thread."""
        return self._working

    async def answer(
        self, request: Request, body: Any, check_wait: Callable[[], None]
    ) -> tuple[Response, dict[str, Any] | None]:
        """The answer, and what post_predict is to be called with.

        `check_wait` is called when a thread has taken the request, and may refuse it by an exception.
        Raises ClientDisconnect when the client goes while the request waits for a thread.
        """
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, copy_context().run, traced_predict(self._answer), request, body, check_wait
        )
        self._working += 1
        try:
            if self._working > self._size:
                gone = asyncio.create_task(_client_gone(request))
                waits: set[asyncio.Future[Any]] = {work, gone}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
                if not work.done():
                    work.cancel()
                    raise ClientDisconnect
            return await work
        finally:
            self._working -= 1

    def _answer(
        self, request: Request, body: Any, check_wait: Callable[[], None]
    ) -> tuple[Response, dict[str, Any] | None]:
        check_wait()
        parsed = payload.parse(request, body)
        call = {"payload": parsed, "query_params": request.query_params, "headers": request.headers}
        try:
            prediction = self._predictor.predict(**call)
            response = response_of(prediction)
        except STEERING as error:
            raise RuntimeError(f"predict raised {type(error).__name__}") from error
        return response, {"response": prediction, **call} if self._predictor.has_post_predict else None

    def post_predict(self, call: dict[str, Any]) -> None:
        work = self._threads.submit(self._post_predict, call)
        self._behind.add(work)
        work.add_done_callback(self._behind.discard)

    def finish(self, seconds: float) -> None:
        """Waits for what post_predict still has to do; what is left after `seconds` is logged, and lost."""
        _, left = wait(tuple(self._behind), max(0.0, seconds))
        if left:
            log.warning("post_predict of %d answered requests did not come to its end", len(left))

    def _post_predict(self, call: dict[str, Any]) -> None:
        try:
            self._predictor.post_predict(**call)
        except (Exception, *STEERING):
            log.exception("post_predict failed")


async def _client_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
