import asyncio
import errno
import logging
import socket
from collections.abc import Callable

log = logging.getLogger("visionserve")

# Seconds: long enough for another process to take the next connection, too short to be seen in a latency.
PAUSE = 0.001
# Seconds to wait where a connection could not be taken, such as when all file descriptors are in use.
SETBACK = 0.1


class Acceptor:
    """Takes connections from a listening socket that several processes share, so that each gets its part of them.

    An event loop's own server takes all that wait at once, and eight clients that connect together may all end up in
    one process. This takes one and leaves the next to the others for PAUSE. To uvicorn it is an asyncio.Server.
    """

    def __init__(
        self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol], make_room: Callable[[], None]
    ) -> None:
        """`make_room` is called when all file descriptors are in use; it may close connections."""
        self._listener = listener
        self._make_room = make_room
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._connecting: set[asyncio.Task] = set()
        self._closed = False
        listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """May be called again, also when the listening socket is closed."""
        if self._closed:
            return
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._connecting, return_exceptions=True)

    def _listen(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another process was quicker, or the client is gone again
        except OSError as error:
            log.warning("a connection could not be taken: %s", error)
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._make_room()
            self._rest(SETBACK)
            return
        self._rest(PAUSE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._listen)
