from dataclasses import dataclass
from pathlib import Path

from visionserve.models.builds.agreement import Agreement
from visionserve.models.builds.folder import size


@dataclass(frozen=True)
class Accelerated:
    """A build for an accelerator. `placed`: the part of its operations that run there. `agreement`: with the CPU
    build, at the batch size where it is worst."""

    folder: Path
    placed: float
    agreement: Agreement

    def __str__(self) -> str:
        return (
            f"{self.folder}, {size(self.folder) / 1e6:.0f} MB, {self.placed:.1%} of its operations accelerated\n"
            f"{self.agreement}"
        )
