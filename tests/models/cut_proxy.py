import contextlib
import socket
import threading
from types import TracebackType

BLOCK = 1 << 16


class CutProxy:
    """A TCP proxy to a port of 127.0.0.1 that passes on `limit` bytes of what clients send and then no more.

    From there on connections stay open and silent until `resume`, as when a network goes away, or, with `dies`, all are
    closed and no new one is taken, as when the server does. `cut` is set at that moment.
    """

    def __init__(self, target: int, limit: int, dies: bool = False) -> None:
        self.cut, self._resumed = threading.Event(), threading.Event()
        self._target, self._left, self._dies = target, limit, dies
        self._lock = threading.Lock()
        self._sockets = [socket.create_server(("127.0.0.1", 0))]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "CutProxy":
        self._port = self._sockets[0].getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._close()

    def resume(self) -> None:
        self._resumed.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._sockets[0].accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                threading.Thread(target=self._pass_on, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BLOCK):
                if counted and not self._may_pass(len(data)):
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _may_pass(self, count: int) -> bool:
        with self._lock:
            self._left -= count
        if self._left >= 0:
            return True
        if self._dies:
            self._close()
        self.cut.set()
        return self._resumed.wait()

    def _close(self) -> None:
        # Who waits for that finds its connection closed.
        self.resume()
        for each in self._sockets:
            # A thread that waits in accept or recv is woken by shutdown and not by close.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
