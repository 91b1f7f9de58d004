from collections.abc import Iterable
from dataclasses import dataclass

from visionserve.errors import NotFoundError
from visionserve.inference.saved_model import find_version
from visionserve.inference.served_model import ModelSettings, ServedModel


@dataclass(frozen=True)
class VersionStatus:
    """`state`: START, LOADING, AVAILABLE, UNLOADING or END, as TensorFlow Serving says it; `error`: why it is END."""

    version: int
    state: str
    error: str = ""


class Repository:
    """The models of a server by name and version."""

    def __init__(self, models: Iterable[ModelSettings]) -> None:
        self._settings = {settings.name: settings for settings in models}
        self._models: dict[str, dict[int, ServedModel]] = {}

    @property
    def names(self) -> list[str]:
        return sorted(self._settings)

    def load(self) -> None:
        """Loads every model. Raises ModelError when one does not load."""
        for name, settings in self._settings.items():
            version, folder = (1, settings.path) if settings.engine == "null" else find_version(settings.path)
            self._models[name] = {version: ServedModel(settings, version, folder)}

    def find(self, name: str, version: int | None = None, label: str = "") -> ServedModel:
        """`version`: None for the highest that is loaded. Raises NotFoundError."""
        versions = self._known(name)
        if label:
            raise NotFoundError(f"Model {name} has no version label {label!r}: ask for a version number.")
        if version is None:
            return versions[max(versions)]
        if version not in versions:
            known = ", ".join(map(str, sorted(versions)))
            raise NotFoundError(f"Version {version} of model {name} is not served here: ask for {known}.")
        return versions[version]

    def statuses(self, name: str, version: int | None = None, label: str = "") -> list[VersionStatus]:
        """Of every version that is known, or of the one asked for. Raises NotFoundError."""
        if version is None and not label:
            return [VersionStatus(number, "AVAILABLE") for number in sorted(self._known(name))]
        return [VersionStatus(self.find(name, version, label).version, "AVAILABLE")]

    def close(self) -> None:
        for versions in self._models.values():
            for model in versions.values():
                model.close()

    def _known(self, name: str) -> dict[int, ServedModel]:
        if name not in self._models:
            raise NotFoundError(f"Model {name!r} is not served here: ask for one of {', '.join(self.names)}.")
        return self._models[name]
