from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Arrays = Mapping[str, np.ndarray]

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor of a signature; -1 in `shape` is an open dimension."""

    dtype: np.dtype
    shape: tuple[int, ...]

    def accepts(self, array: np.ndarray) -> bool:
        return len(array.shape) == len(self.shape) and all(
            wanted in (-1, got) for wanted, got in zip(self.shape, array.shape, strict=True)
        )


class Engine(Protocol):
    """Runs one signature of one model build. `infer` may be called from `slots` threads at once."""

    name: str
    signature_key: str
    slots: int
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]

    def infer(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """inputs: name -> array [N, ...] as in `self.inputs`; gives name -> array [N, ...]."""

    def close(self) -> None: ...
