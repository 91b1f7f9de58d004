from pathlib import Path
from typing import Any

from pydantic import BaseModel

from visionserve.cortex.remote_models import RemoteModels
from visionserve.cortex.spec.api import ApiSpec


class ReplicaSettings(BaseModel):
    """All that a replica needs to know, wherever it starts.

    spec: its local model folders are looked for in `packages`, and all else in `project`.
    project: the folder on the node; a relative one starts from the replica's working folder.
    engine: one of ENGINES; threads: of the engine; packages: the path of a model folder in the spec -> the URI of the
    package that Ray brought it in, none where the folder is at that path on every node; api_keys: the digests of keys.
    """

    spec: ApiSpec
    project: Path = Path(".")
    engine: str = "auto"
    on_cpu: bool = False
    threads: int = 1
    remote: RemoteModels | None = None
    packages: dict[str, str] = {}
    api_keys: list[str] = []

    def as_argument(self) -> dict[str, Any]:
        return self.model_dump(mode="json")
