import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from visionserve.child import Child
from visionserve.cores import available_cores
from visionserve.errors import UsageError
from visionserve.inference.engines import choose_engine
from visionserve.inference.model_folder import find_version
from visionserve.inference.model_server import ServerSettings
from visionserve.inference.model_settings import ModelSettings
from visionserve.keeper import Keeper
from visionserve.services.rest.routes import Route

NAME = "model server"
START_TIMEOUT = 300.0
# Seconds between two looks for new versions of the models.
POLL = 1.0

log = logging.getLogger("visionserve")


class EmbeddedServer:
    """Our model server as a child process on a Unix socket; when it dies, it is started again."""

    def __init__(self, routes: Sequence[Route], engine: str) -> None:
        """`engine`: as choose_engine takes it.

        Raises UsageError for a route without a folder, and what choose_engine and find_version raise.
        """
        folders = {route.model: _folder(route) for route in routes}
        versions = {name: find_version(folder)[1] if engine != "null" else None for name, folder in folders.items()}
        models = [
            ModelSettings(
                name=name,
                path=folder,
                engine=choose_engine(engine, folder=versions[name]),
                threads=available_cores(),
            )
            for name, folder in folders.items()
        ]
        self.engines = sorted({model.engine for model in models})
        self._folder = tempfile.TemporaryDirectory(prefix="visionserve-rest-")
        folder = Path(self._folder.name)
        self.address = f"unix:{folder / 'model.sock'}"
        self._file = folder / "model_server.json"
        settings = ServerSettings(address=self.address, models=models, poll=POLL, casualties=folder / "casualties")
        self._file.write_text(settings.model_dump_json())
        self._keeper = Keeper(NAME, self._child, START_TIMEOUT, log.info)

    async def start(self) -> None:
        """Returns when the models are loaded. Raises DeploymentError with the server's own sentence."""
        await self._keeper.start()
        await self._keeper.wait_ready()
        await self._keeper.go()

    async def stop(self, seconds: float) -> None:
        """The model server is killed if it takes longer than `seconds`."""
        await self._keeper.stop(seconds)
        self._folder.cleanup()

    async def _child(self) -> Child:
        return await Child.start(NAME, "visionserve.inference.model_server", [str(self._file)], log.info)


def _folder(route: Route) -> Path:
    if route.path is None:
        raise UsageError(f"Route {route.name} has no path: give it the model's folder, or use --tensorflow-serving.")
    if not route.path.is_dir():
        raise UsageError(
            f"Route {route.name}: there is no folder {route.path}: make it with visionserve export cpu, or name "
            "another in a file for --config."
        )
    return route.path
