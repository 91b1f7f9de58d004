"""Resident memory of what records: recording.py COUNT FEW prints its MiB after FEW latencies and after COUNT, as JSON.

The requests come 10,000 a second on the recorder's own clock, so that 10 million last 1000 s; one in a hundred beside
them fails, each with words of its own.
"""

import json
import random
import sys

import psutil

from visionserve.bench.load.results import Result, Tally
from visionserve.bench.transport.failures import RESET, Failure

INTERVAL_NS = 100_000
FAILURE_EVERY = 100


def main() -> None:
    count, few = int(sys.argv[1]), int(sys.argv[2])
    chance = random.Random(0)
    # 0.1 ms to 60 s, as many in each decade: every part of a histogram is used.
    latencies_ns = [round(10 ** chance.uniform(5, 10.78)) for _ in range(10_007)]
    tally, process, resident = Tally(), psutil.Process(), []
    for number in range(count):
        due = number * INTERVAL_NS
        ended = due + latencies_ns[number % len(latencies_ns)]
        tally.add(Result(due, due, ended, 1))
        if number % FAILURE_EVERY == 0:
            tally.add(Result(due, due, ended, 1, Failure(RESET, f"request {number} was reset")))
        if number + 1 in (few, count):
            resident.append(process.memory_info().rss / 2**20)
    print(json.dumps(resident))


if __name__ == "__main__":
    main()
