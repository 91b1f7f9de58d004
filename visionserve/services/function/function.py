import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from starlette.types import Receive, Scope, Send

from visionserve.errors import VisionserveError
from visionserve.services.function.app import application
from visionserve.services.function.classifier import Classifier
from visionserve.services.function.objects import Objects
from visionserve.services.function.settings import Settings, read_settings

log = logging.getLogger("visionserve")


def new() -> "Function":
    """What the middleware of Knative Functions (PyPI's func-python) calls once a process.

    Raises UsageError for a wrong setting: here it ends the process, while the server would go on without `start`.
    """
    return Function(read_settings())


class Function:
    """An instance as the middleware runs it: `start`, then `handle` for each request but those for its health."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._loading: Future[Classifier] = Future()
        self._objects = Objects(settings)
        self._app = application(settings, self._objects, self._classifier)

    def start(self, cfg: Mapping[str, str]) -> None:
        """Returns at once; the model loads in a thread, so that the process is alive meanwhile.

        `cfg`: a copy of the environment, which the settings are from already.
        """
        self._loading = self._loader.submit(_load, self._settings)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Every request has its answer here: for an exception the middleware would send a second one."""
        try:
            await self._app(scope, receive, send)
        except Exception:  # it is answered already, by a 500
            log.exception("A request failed.")

    def alive(self) -> tuple[bool, str]:
        """False once the model has failed to load: the platform then starts the process anew."""
        failure = self._failure()
        return failure is None, failure or "OK"

    def ready(self) -> tuple[bool, str]:
        if not self._loading.done():
            return False, "The model is being loaded."
        return self.alive()

    def stop(self) -> None:
        self._loader.shutdown()
        self._objects.close()
        if self._loading.done() and self._failure() is None:
            self._loading.result().close()

    def _failure(self) -> str | None:
        error = self._loading.exception() if self._loading.done() else None
        return str(error) if error else None

    async def _classifier(self) -> Classifier:
        return await asyncio.shield(asyncio.wrap_future(self._loading))


def _load(settings: Settings) -> Classifier:
    try:
        return Classifier(settings.model_path, settings.engine)
    except VisionserveError as error:
        log.error("%s", error)
        raise
    except Exception:
        log.exception("The model did not load.")
        raise
