import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from visionserve.errors import InvalidInputError, ModelError, NotFoundError
from visionserve.inference.casualties import Casualties
from visionserve.inference.model_folder import Fingerprint, find_version, find_versions, fingerprint, is_model
from visionserve.inference.model_settings import ModelSettings
from visionserve.inference.served_model import ServedModel

log = logging.getLogger("visionserve")


@dataclass(frozen=True)
class VersionStatus:
    """`state`: START, LOADING, AVAILABLE, UNLOADING or END, as TensorFlow Serving says it; `error`: why it is END."""

    version: int
    state: str
    error: str = ""


@dataclass(frozen=True)
class _Candidate:
    folder: Path
    files: Fingerprint


class ServedVersions:
    """One model: its loaded versions, and what its folder holds beside them. To be used on one event loop."""

    def __init__(self, settings: ModelSettings, casualties: Casualties | None = None) -> None:
        self._settings = settings
        self._casualties = casualties
        self._models: dict[int, ServedModel] = {}
        self._statuses: dict[int, VersionStatus] = {}
        self._failed: dict[int, Fingerprint] = {}
        self._seen: dict[int, Fingerprint] = {}
        self._unloading: set[asyncio.Task] = set()
        self._complaint = ""
        self._is_one_version = False

    def load(self) -> None:
        """Loads what the policy wants. Raises ModelError when that is nothing, or does not load."""
        for version, folder in self._at_start().items():
            self._models[version] = self._served(version, folder)
            self._say(version, "AVAILABLE")

    def find(self, version: int | None, label: str) -> ServedModel:
        """`version`: None for the highest that is loaded.

        Raises NotFoundError, and InvalidInputError for a label that the model does not have. A label may name a
        version that is not loaded yet (TensorFlow Serving's allow_version_labels_for_unavailable_models).
        """
        version = self._version(version, label)
        if version is None:
            return self._models[max(self._models)]
        if version not in self._models:
            served = ", ".join(map(str, sorted(self._models)))
            raise NotFoundError(
                f"Version {version} of model {self._settings.name} is not served here: ask for {served}."
            )
        return self._models[version]

    def statuses(self, version: int | None, label: str) -> list[VersionStatus]:
        """Of every version that was found since the start, or of the one asked for. Raises as `find`."""
        version = self._version(version, label)
        if version is None:
            return [self._statuses[number] for number in sorted(self._statuses)]
        if version not in self._statuses:
            known = ", ".join(map(str, sorted(self._statuses)))
            raise NotFoundError(f"Model {self._settings.name} has no version {version}: ask for {known}.")
        return [self._statuses[version]]

    async def follow(self) -> bool:
        """Looks at the folder once: loads the versions that the policy now wants, then unloads those it no longer does.

        Whether new files have been found, which are loaded when the next look finds them unchanged: a folder that is
        still being copied is left alone. A version that does not load is tried again when its files change.
        Availability comes first, as in TensorFlow Serving with servable_versions_always_present: nothing is unloaded
        while the folder is gone or holds no version that the policy wants, or before one that it wants is loaded.
        """
        if self._is_one_version:
            return False
        try:
            wanted = await asyncio.to_thread(self._look)
        except OSError as error:
            self._complain(f"its folder cannot be read: {error}")
            return False
        if not wanted:
            self._complain(f"there is no version to serve under {self._settings.path}")
            return False
        self._complaint = ""
        new = {version: candidate for version, candidate in wanted.items() if self._is_new(version, candidate)}
        settled = {version for version, candidate in new.items() if self._seen.get(version) == candidate.files}
        for version in new:
            self._say(version, "START")
        for version in settled:
            await self._load(version, new[version])
        self._seen = {version: candidate.files for version, candidate in new.items() if version not in settled}
        self._failed = {version: files for version, files in self._failed.items() if version in wanted}
        if not self._seen and wanted.keys() & self._models.keys():
            for version in self._models.keys() - wanted.keys():
                self._unload(version)
        return bool(self._seen)

    def close(self) -> None:
        for model in self._models.values():
            model.close()

    def _at_start(self) -> dict[int, Path]:
        path = self._settings.path
        if self._settings.engine != "null":
            find_version(path)
        self._is_one_version = is_model(path)
        found = list(find_versions(path)) if path.is_dir() else []
        wanted = self._settings.version_policy.choose(found or [(1, path)])
        if not wanted:
            raise ModelError(
                f"Model {self._settings.name} has no version that its policy wants: {path} has "
                f"{', '.join(str(version) for version, _ in reversed(found)) or 'none'}."
            )
        return wanted

    def _served(self, version: int, folder: Path) -> ServedModel:
        # OpenVINO 2026.4 gives the thread that compiles a model an alternate signal stack and unmaps it with the model:
        # a main thread that had one would die of its next signal.
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as thread:
            return thread.submit(ServedModel, self._settings, version, folder, self._casualties).result()

    def _look(self) -> dict[int, _Candidate]:
        wanted = self._settings.version_policy.choose(find_versions(self._settings.path))
        # A loaded version stays as it is, whatever becomes of its files.
        return {
            version: _Candidate(folder, () if version in self._models else fingerprint(folder))
            for version, folder in wanted.items()
        }

    def _is_new(self, version: int, candidate: _Candidate) -> bool:
        status = self._statuses.get(version)
        if version in self._models or (status and status.state == "UNLOADING"):
            return False
        return self._failed.get(version) != candidate.files

    async def _load(self, version: int, candidate: _Candidate) -> None:
        self._say(version, "LOADING")
        loading = asyncio.ensure_future(asyncio.to_thread(self._served, version, candidate.folder))
        try:
            model = await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(_discard)
            raise
        except Exception as error:  # noqa: BLE001 - whatever an engine raises on a version, the others are served on
            self._failed[version] = candidate.files
            self._say(version, "END", str(error) or repr(error))
            log.warning("version %d of model %s does not load: %s", version, self._settings.name, error)
        else:
            self._models[version] = model
            self._say(version, "AVAILABLE")
            log.info("version %d of model %s is served", version, self._settings.name)

    def _unload(self, version: int) -> None:
        model = self._models.pop(version)
        self._say(version, "UNLOADING")
        task = asyncio.create_task(self._retire(model))
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def _retire(self, model: ServedModel) -> None:
        try:
            await model.retire()
        finally:
            self._say(model.version, "END")
        log.info("version %d of model %s is unloaded", model.version, model.name)

    def _version(self, version: int | None, label: str) -> int | None:
        if not label:
            return version
        labels = self._settings.version_labels
        if label not in labels:
            known = f"one of {', '.join(sorted(labels))}" if labels else "a version number"
            raise InvalidInputError(f"Model {self._settings.name} has no version label {label!r}: ask for {known}.")
        return labels[label]

    def _say(self, version: int, state: str, error: str = "") -> None:
        self._statuses[version] = VersionStatus(version, state, error)

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            log.warning("model %s is served as it is: %s", self._settings.name, complaint)
        self._complaint = complaint


def _discard(loading: "asyncio.Future[ServedModel]") -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()
