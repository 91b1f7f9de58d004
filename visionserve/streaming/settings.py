from dataclasses import dataclass
from pathlib import Path

from visionserve.streaming.model_options import ModelOptions


@dataclass(frozen=True)
class StreamSettings:
    """What the command was told; each field is an option, in snake case. Times are in seconds.

    `cluster`: HOST:PORT of a running cluster's REST API, None for an embedded one.
    """

    image_folder: Path
    checkpoint_path: Path
    model: ModelOptions
    parallelism: int | None = None
    cluster: str | None = None
    watch: bool = False
    output: Path | None = None
    format: str = "text"
    broken: Path | None = None
    resume: bool = False
    threads: int | None = None
    checkpoint_interval: float = 10.0
    checkpoint_folder: str | None = None
    py_executable: str | None = None
    log_folder: Path | None = None
    timeline: Path | None = None
