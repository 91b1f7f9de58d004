from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator


class VersionPolicy(BaseModel):
    """Which of the versions under a model's folder are served: ServableVersionPolicy of TensorFlow Serving.

    `num_versions`: how many of the highest, for "latest"; `versions`: which, for "specific". See
    tensorflow_serving/sources/storage_path/file_system_storage_path_source.proto.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: PositiveInt = 1
    versions: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _names_versions(self) -> "VersionPolicy":
        if (self.kind == "specific") != bool(self.versions):
            raise ValueError("versions belongs to the kind 'specific', which needs at least one")
        return self

    def choose(self, found: Iterable[tuple[int, Path]]) -> dict[int, Path]:
        """`found`: versions and their folders, the highest first; no more of them are taken than it needs."""
        if self.kind == "latest":
            return dict(islice(found, self.num_versions))
        if self.kind == "specific":
            return {version: folder for version, folder in found if version in self.versions}
        return dict(found)
