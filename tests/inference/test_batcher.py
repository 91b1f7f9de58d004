import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from visionserve.errors import InferenceError
from visionserve.inference.batcher import Batcher


class SteppedEngine:
    """Doubles numbers, one batch each time the test lets it; a batch with a negative number fails."""

    slots = 1

    def __init__(self, free: bool = False) -> None:
        self.batches: list[list[float]] = []
        self._steps = threading.Semaphore(1_000_000 if free else 0)

    def step(self, times: int = 1) -> None:
        self._steps.release(times)

    def infer(self, inputs):
        self.batches.append(inputs["x"][:, 0].tolist())
        assert self._steps.acquire(timeout=30)
        if (inputs["x"] < 0).any():
            raise InferenceError("a negative number")
        return {"y": inputs["x"] * 2}


def number(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array(values, np.float32)[:, None]}


def run(engine, scenario, **settings):
    async def main():
        with ThreadPoolExecutor(1) as executor:
            await scenario(Batcher(engine, executor, **settings))

    asyncio.run(asyncio.wait_for(main(), 60))


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


def test_an_idle_engine_takes_a_request_at_once_and_a_busy_one_fills_the_next_batch_in_order():
    engine = SteppedEngine()

    async def scenario(batcher):
        tasks = [asyncio.create_task(batcher.infer(number(0)))]
        await until(lambda: engine.batches == [[0]])
        tasks += [asyncio.create_task(batcher.infer(number(value))) for value in range(1, 7)]
        await asyncio.sleep(0)
        engine.step(3)
        answers = await asyncio.gather(*tasks)
        assert [answer["y"].tolist() for answer in answers] == [[[2.0 * value]] for value in range(7)]
        assert engine.batches == [[0], [1, 2, 3, 4], [5, 6]]

    run(engine, scenario, max_batch_size=4)


def test_with_an_interval_a_batch_waits_for_company_but_not_once_it_is_full():
    engine = SteppedEngine(free=True)

    async def scenario(batcher):
        together = [batcher.infer(number(value)) for value in range(3)]
        await asyncio.gather(*together)
        assert engine.batches == [[0, 1, 2]]
        await batcher.infer(number(7))
        assert engine.batches[1:] == [[7]]

    run(engine, scenario, max_batch_size=3, batch_interval=0.05)


def test_a_request_of_several_images_stays_whole():
    engine = SteppedEngine(free=True)

    async def scenario(batcher):
        answers = await asyncio.gather(batcher.infer(number(1, 2, 3)), batcher.infer(number(4, 5)))
        assert [answer["y"].ravel().tolist() for answer in answers] == [[2, 4, 6], [8, 10]]
        assert engine.batches == [[1, 2, 3], [4, 5]]

    run(engine, scenario, max_batch_size=4, batch_interval=0.01)


def test_one_bad_request_fails_alone():
    engine = SteppedEngine(free=True)

    async def scenario(batcher):
        answers = await asyncio.gather(*(batcher.infer(number(value)) for value in (1, -1, 2)), return_exceptions=True)
        assert answers[0]["y"].tolist() == [[2]]
        assert answers[2]["y"].tolist() == [[4]]
        assert isinstance(answers[1], InferenceError)

    run(engine, scenario, max_batch_size=3, batch_interval=0.05)


def test_a_request_whose_client_gave_up_is_not_run():
    engine = SteppedEngine()

    async def scenario(batcher):
        first = asyncio.create_task(batcher.infer(number(0)))
        await until(lambda: engine.batches == [[0]])
        gone, kept = (asyncio.create_task(batcher.infer(number(value))) for value in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        engine.step(2)
        assert (await kept)["y"].tolist() == [[4]]
        await first
        assert engine.batches == [[0], [2]]
        with pytest.raises(asyncio.CancelledError):
            await gone

    run(engine, scenario, max_batch_size=4)
