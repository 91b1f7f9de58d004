import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import visionserve
from visionserve.errors import ModelError
from visionserve.models.builds.agreement import Agreement
from visionserve.models.builds.manifest import Manifest, file_hashes, read_manifest
from visionserve.models.builds.signature import DEFAULT


@dataclass(frozen=True)
class Recipe:
    """How a build is made of the CPU build.

    `number`: raised with every change of what is written for the same CPU build. `packages`: those that make it ->
    their versions. `settings`: what they are told.
    """

    target: str
    number: int
    packages: dict[str, str]
    settings: dict[str, Any]

    def made(self, cpu: Manifest, folder: Path) -> Manifest | None:
        """The manifest of the build in `folder` if that is, whole, what this makes of the same weights; else None."""
        try:
            manifest = read_manifest(folder)
        except ModelError:
            return None
        same = (
            (manifest.model, manifest.target, manifest.recipe) == (cpu.model, self.target, self.number)
            and manifest.weights == cpu.weights
            and self.settings.items() <= manifest.settings.items()
            and self._versions.items() <= manifest.versions.items()
        )
        return manifest if same and manifest.describes(folder) else None

    def manifest(self, cpu: Manifest, folder: Path, agreement: Agreement, **found: float) -> Manifest:
        """Of the build in `folder`, which has the CPU build's serving_default alone. `found`: more for its settings."""
        return Manifest(
            model=cpu.model,
            target=self.target,
            recipe=self.number,
            created=datetime.now(timezone.utc),
            weights=cpu.weights,
            versions={**self._versions, "python": platform.python_version()},
            settings={**self.settings, **found},
            agreement=agreement,
            signatures=[cpu.signature(DEFAULT)],
            files=file_hashes(folder),
            classes=cpu.classes,
        )

    @property
    def _versions(self) -> dict[str, str]:
        return {"visionserve": visionserve.__version__, **self.packages}
