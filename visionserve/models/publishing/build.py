import hashlib
from dataclasses import dataclass
from pathlib import Path

from visionserve.errors import ModelError
from visionserve.models.builds.folder import find_versions
from visionserve.models.builds.manifest import NAME, read_manifest
from visionserve.models.checksum import digest

SAVED_MODEL = "saved_model.pb"
VARIABLES = ("variables/variables.index", "variables/variables.data-00000-of-")


@dataclass(frozen=True)
class Build:
    """A version of a model. `files`: path in its folder -> sha256, the model.json being the last."""

    name: str
    version: int
    folder: Path
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change with any file."""
        lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()[:16]


def find_build(model: Path, for_inferentia: bool = False) -> Build | None:
    """The highest version in the folder of a model, or that folder itself as version 1; None where there is none.

    Raises ModelError for one that is not as it was written, or that a Cortex cluster would refuse.
    """
    versions = find_versions(model)
    if not versions:
        return None
    version, folder = versions[-1]
    manifest = read_manifest(folder)
    if not manifest.describes(folder):
        raise ModelError(f"{folder} is not as it was written, so it was not published: export it again")
    _check_for_cortex(folder, list(manifest.files), for_inferentia)
    files = {**dict(sorted(manifest.files.items())), NAME: digest(folder / NAME)}
    return Build(model.name, version, folder, files)


def _check_for_cortex(folder: Path, files: list[str], for_inferentia: bool) -> None:
    """Cortex's operator looks for these names when a spec is deployed, those of variables but for Inferentia."""
    for wanted in (SAVED_MODEL, *(() if for_inferentia else VARIABLES)):
        if not any(path.startswith(wanted) for path in files):
            raise ModelError(f"{folder} has no {wanted}, without which a Cortex cluster refuses it: export it again")
