import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def in_own_thread(work: Callable[[], Result]) -> Result:
    """What `work` returns or raises, from a thread of its own, which Ctrl-C leaves behind at once.

    OpenVINO 2026.4 gives the thread that compiles a model an alternate signal stack and unmaps it with the model: a
    main thread that had one would die of its next signal, on some machines, before it could tidy up.
    """
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that asked
            done.set_exception(error)

    threading.Thread(target=run, name="openvino", daemon=True).start()
    return done.result()
