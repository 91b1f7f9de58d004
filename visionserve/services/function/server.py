import asyncio
import logging
import os
import signal

import uvloop
from func_python.http import ASGIApplication

from visionserve.farewell import leave_after
from visionserve.inference.http_server import HttpServer
from visionserve.inference.listener import listen
from visionserve.services.function.function import new

# Seconds for the requests in flight at the end, and for the whole end, of the 30 that Kubernetes gives a container.
GRACE = 25.0
END_SECONDS = GRACE + 2

log = logging.getLogger("visionserve")


def run(address: str) -> None:
    """Serves the function on `address`, HOST:PORT, until SIGTERM or SIGINT; requests in flight are answered. It ends
    within END_SECONDS, whatever the engine or S3 does.

    The middleware is Knative Functions' own. The server before it is uvicorn, which answers more requests a second than
    the one that comes with the middleware and leaves more of the cores to the engine.
    Raises DeploymentError for an address in use, UsageError for a wrong setting.
    """
    uvloop.run(_serve(address))


async def _serve(address: str) -> None:
    listener = listen(address)
    function = new()
    server = HttpServer(ASGIApplication(function), listener, GRACE)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    function.start(os.environ)
    await server.start()
    log.info("serving on %s", address)
    await stop.wait()
    leave_after(END_SECONDS)
    await server.stop()
    function.stop()
