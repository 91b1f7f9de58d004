import asyncio
from collections.abc import Iterable

from visionserve.errors import NotFoundError
from visionserve.inference.casualties import Casualties
from visionserve.inference.model_settings import ModelSettings
from visionserve.inference.served_model import ServedModel
from visionserve.inference.served_versions import ServedVersions, VersionStatus

__all__ = ["Repository", "VersionStatus"]

# Seconds after which new files are looked at again, to see whether they are still being copied.
SETTLING = 1.0


class Repository:
    """The models of a server by name and version. To be used on one event loop."""

    def __init__(self, models: Iterable[ModelSettings], casualties: Casualties | None = None) -> None:
        self._models = {settings.name: ServedVersions(settings, casualties) for settings in models}

    @property
    def names(self) -> list[str]:
        return sorted(self._models)

    def load(self) -> None:
        """Loads what each model's version policy wants. Raises ModelError when that is nothing, or does not load."""
        try:
            for versions in self._models.values():
                versions.load()
        except BaseException:
            self.close()
            raise

    async def watch(self, poll_seconds: float) -> None:
        """Follows the models' folders, one look every `poll_seconds`, until it is canceled.

        Folders are read and versions loaded in a thread. A new version takes over when it is loaded; the requests in
        flight on the one that it replaces are answered. ServedVersions.follow says when a version is unloaded.
        """
        settling = False
        while True:
            await asyncio.sleep(min(poll_seconds, SETTLING) if settling else poll_seconds)
            settling = False
            for versions in self._models.values():
                settling |= await versions.follow()

    def find(self, name: str, version: int | None = None, label: str = "") -> ServedModel:
        """`version`: None for the highest that is loaded.

        Raises NotFoundError, and InvalidInputError for a label that the model does not have.
        """
        return self._known(name).find(version, label)

    def statuses(self, name: str, version: int | None = None, label: str = "") -> list[VersionStatus]:
        """Of every version that was found since the start, or of the one asked for. Raises as `find`."""
        return self._known(name).statuses(version, label)

    def close(self) -> None:
        for versions in self._models.values():
            versions.close()

    def _known(self, name: str) -> ServedVersions:
        if name not in self._models:
            raise NotFoundError(f"Model {name!r} is not served here: ask for one of {', '.join(self.names)}.")
        return self._models[name]
