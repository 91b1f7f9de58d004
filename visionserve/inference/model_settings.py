from pathlib import Path

from pydantic import BaseModel

from visionserve.inference.signature_key import DEFAULT_SIGNATURE
from visionserve.inference.version_policy import VersionPolicy


class ModelSettings(BaseModel):
    """One model of a server. `path`: a folder as TensorFlow Serving lays it out; `batch_interval`: seconds."""

    name: str
    path: Path
    signature_key: str = DEFAULT_SIGNATURE
    engine: str = "null"
    threads: int = 1
    max_batch_size: int | None = None
    batch_interval: float = 0.0
    version_policy: VersionPolicy = VersionPolicy()
    version_labels: dict[str, int] = {}
