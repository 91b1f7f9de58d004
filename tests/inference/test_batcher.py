import asyncio
import threading

import numpy as np
import pytest

from visionserve.errors import InferenceError, OverloadedError
from visionserve.inference.batch_limit import AdaptiveBatchLimit
from visionserve.inference.batcher import Batcher
from visionserve.inference.casualties import Casualties
from visionserve.inference.engine import Signature, TensorSpec

ROWS = TensorSpec(np.dtype(np.float32), (-1, 1))


class SteppedEngine:
    """Doubles numbers, one batch each time the test lets it; a batch with a negative number fails."""

    slots = 1
    signature = Signature({"x": ROWS}, {"y": ROWS})

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
        batcher = Batcher(engine, **settings)
        try:
            await scenario(batcher)
        finally:
            batcher.close()

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

    # As long as the first three might take to be in the queue.
    run(engine, scenario, max_batch_size=3, batch_interval=2)


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


def test_a_request_larger_than_a_batch_runs_as_several_and_comes_back_whole():
    engine = SteppedEngine(free=True)

    async def scenario(batcher):
        answer = await batcher.infer(number(*range(10)))
        assert answer["y"].ravel().tolist() == [2.0 * value for value in range(10)]
        assert engine.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        with pytest.raises(InferenceError, match="negative"):
            await batcher.infer(number(1, 2, 3, 4, -5))

    run(engine, scenario, max_batch_size=4)


def test_a_full_queue_refuses_at_once_and_forgets_those_who_gave_up():
    engine = SteppedEngine()

    async def scenario(batcher):
        running = asyncio.create_task(batcher.infer(number(0)))
        await until(lambda: engine.batches == [[0]])
        waiting = [asyncio.create_task(batcher.infer(number(value))) for value in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 requests are waiting"):
            await batcher.infer(number(3))
        waiting[0].cancel()
        await asyncio.sleep(0)
        last = asyncio.create_task(batcher.infer(number(4)))
        await asyncio.sleep(0)
        engine.step(3)
        assert (await last)["y"].tolist() == [[8]]
        await asyncio.gather(running, waiting[1])

    run(engine, scenario, max_queue=2)


def test_a_model_of_a_fixed_batch_size_is_never_joined():
    engine = SteppedEngine(free=True)
    one = TensorSpec(np.dtype(np.float32), (1, 1))
    engine.signature = Signature({"x": one}, {"y": one})

    async def scenario(batcher):
        await asyncio.gather(*(batcher.infer(number(value)) for value in range(3)))
        assert engine.batches == [[0], [1], [2]]

    run(engine, scenario, max_batch_size=4, batch_interval=0.05)


def fed(limit: AdaptiveBatchLimit, cost, batches: int) -> set[int]:
    """The limits seen while `batches` full batches ran, with plenty waiting; cost: rows -> seconds of a batch."""
    seen = set()
    for _ in range(batches):
        limit.observe(limit.rows, cost(limit.rows), waiting=1000)
        seen.add(limit.rows)
    return seen


def test_the_limit_grows_while_larger_batches_cost_less_per_row():
    limit = AdaptiveBatchLimit()
    fed(limit, lambda rows: 0.020 + 0.001 * rows, 100)
    assert limit.rows == 128


def test_the_limit_stays_where_larger_batches_gain_nothing_and_tries_rarely():
    limit = AdaptiveBatchLimit()
    tried = fed(limit, lambda rows: 0.040 * rows, 100)
    assert (limit.rows, tried) == (4, {4, 8})
    assert fed(limit, lambda rows: 0.040 * rows, 300) == {4}


def test_the_limit_does_not_grow_without_requests_to_fill_it():
    limit = AdaptiveBatchLimit()
    for _ in range(100):
        limit.observe(4, 0.02, waiting=7)
    assert limit.rows == 4


def test_two_requests_that_an_engine_died_with_never_run_side_by_side(tmp_path):
    engine = SteppedEngine()
    engine.slots = 2
    for page, dead in zip(Casualties(tmp_path / "casualties").pages(2), ("one", "two"), strict=True):
        page.begin([dead], limit=1)

    async def scenario(batcher):
        named = {"one": 1, "two": 2, "": 3}
        tasks = [asyncio.create_task(batcher.infer(number(value), name)) for name, value in named.items()]
        await until(lambda: len(engine.batches) == 2)
        assert sorted(engine.batches) == [[1], [3]]
        engine.step(3)
        assert [answer["y"].tolist() for answer in await asyncio.gather(*tasks)] == [[[2]], [[4]], [[6]]]
        assert engine.batches[2] == [2]

    run(engine, scenario, casualties=Casualties(tmp_path / "casualties"))
