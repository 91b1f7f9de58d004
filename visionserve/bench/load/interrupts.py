import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Ctrl-C and SIGTERM as something to wait for beside pipes, so that none breaks into a half-read message.

    `alarm` becomes readable at each of them, until `take`.
    """

    def __enter__(self) -> "Interrupts":
        self.alarm, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        self._before: dict[signal.Signals, Any] = {number: signal.signal(number, self._ring) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.alarm.close()
        self._bell.close()

    def take(self) -> None:
        self.alarm.recv(4096)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        with suppress(BlockingIOError):  # it has rung often enough to be heard
            self._bell.send(b"!")


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Holds SIGINT and SIGTERM back; processes started inside never see them."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
