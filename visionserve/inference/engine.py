from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from visionserve.errors import InvalidInputError

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor of a signature; -1 in `shape` is an open dimension."""

    dtype: np.dtype
    shape: tuple[int, ...]

    def accepts(self, array: np.ndarray) -> bool:
        return len(array.shape) == len(self.shape) and all(
            wanted in (-1, got) for wanted, got in zip(self.shape, array.shape, strict=True)
        )


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives under one signature key."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    def check(self, inputs: Arrays) -> None:
        """Raises InvalidInputError, one sentence, where inputs do not fit."""
        if inputs.keys() != self.inputs.keys():
            raise InvalidInputError(f"The model takes the inputs {sorted(self.inputs)}, not {sorted(inputs)}.")
        rows = set()
        for name, spec in self.inputs.items():
            array = inputs[name]
            if array.dtype != spec.dtype:
                raise InvalidInputError(f"Input {name} is {_type(spec.dtype)}, not {_type(array.dtype)}.")
            if not spec.accepts(array):
                raise InvalidInputError(f"Input {name} has the shape {list(spec.shape)}, not {list(array.shape)}.")
            if array.ndim:
                rows.add(array.shape[0])
        if len(rows) > 1 or 0 in rows:
            raise InvalidInputError(f"The inputs need one batch size of at least 1, not {sorted(rows)}.")


def _type(dtype: np.dtype) -> str:
    return "string" if dtype.kind in "OSU" else str(dtype)


class Engine(Protocol):
    """Runs one signature of one model build. `infer` may be called from `slots` threads at once."""

    name: str
    signature_key: str
    slots: int
    signature: Signature

    def infer(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """inputs: name -> array [N, ...] as the signature wants them; gives name -> array [N, ...]."""

    def close(self) -> None: ...
