"""DCF's Handler under load: PHOTO CLASS CLIENTS; for each line of seconds on stdin, one line of images/s on stdout."""

import base64
import importlib.util
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HANDLER = Path(__file__).resolve().parent.parent / "deploy" / "dcf" / "handler.py"


def main() -> None:
    photo, expected, clients = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    specification = importlib.util.spec_from_file_location("handler", HANDLER)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    request = SimpleNamespace(input=base64.b64encode(photo.read_bytes()))
    first = json.loads(module.Handler(request))
    if not any(found["class"] == expected for found in first):
        raise SystemExit(f"{photo} is answered {first}, without a {expected}")
    for line in sys.stdin:
        print(rate(lambda: module.Handler(request), clients, float(line)), flush=True)


def rate(call: Callable[[], Any], clients: int, seconds: float) -> float:
    """Calls a second of `clients` threads, each as soon as its last call ended; until the last answer."""
    counts = [0] * clients
    started = time.perf_counter()

    def work(client: int) -> None:
        while time.perf_counter() - started < seconds:
            call()
            counts[client] += 1

    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
