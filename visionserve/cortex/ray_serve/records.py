from datetime import datetime
from pathlib import Path

from visionserve.cortex.ray_serve.mapping import Resources
from visionserve.cortex.ray_serve.settings import ReplicaSettings
from visionserve.cortex.record_store import Named, RecordStore, state_folder


class RayDeployment(Named):
    """What is known on this machine of an API on a Ray cluster, enough to deploy the same again.

    address: the cluster's; uris: of the packages that its replicas start from, the project's first.
    """

    address: str
    endpoint: str
    spec_file: Path
    engine: str | None
    digest: str
    uris: list[str]
    reserved: Resources
    settings: ReplicaSettings
    updated: datetime


class RayStore(RecordStore[RayDeployment]):
    """The APIs that this user has deployed to Ray clusters."""

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root or state_folder() / "ray", RayDeployment)

    def forget(self, name: str) -> None:
        self._record(name).unlink(missing_ok=True)
