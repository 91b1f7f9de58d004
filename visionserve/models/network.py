from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from visionserve.errors import WeightsError
from visionserve.models import layer_names

# BatchNormalization's epsilon is not among the weights: each naming came with its own network code.
OLD_EPSILON = 1e-3
NEW_EPSILON = 1.001e-5


class Stored(Protocol):
    """A variable in a file: a numpy array, or an HDF5 data set that is read only once its shape is right."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...


@dataclass(frozen=True)
class StoredNetwork:
    """What a file holds: its layers' variables in Keras's order, and the Keras config of the model if it has one."""

    layers: Mapping[str, Sequence[Stored]]
    config: Mapping[str, Any] | None = None


def resnet50_tensors(stored: StoredNetwork) -> tuple[dict[str, list[np.ndarray]], float]:
    """Layer (Keras 3's names) -> float32 variables in Keras's order, and BatchNormalization's epsilon.

    Raises WeightsError that names the first layer that does not fit ResNet50.
    """
    layers = {layer_names.new_name(name): variables for name, variables in stored.layers.items() if variables}
    expected = layer_names.resnet50_shapes()
    tensors = {}
    for name, shapes in expected.items():
        if name not in layers:
            raise WeightsError(f"not ResNet50: layer {name} is missing")
        tensors[name] = _fitted(name, layers[name], shapes)
    for name in layers:
        if name not in expected:
            raise WeightsError(f"not ResNet50: it has a layer {name}, which ResNet50 has not")
    return tensors, _epsilon(stored)


def _fitted(name: str, variables: Sequence[Stored], shapes: Mapping[str, layer_names.Shape]) -> list[np.ndarray]:
    found = [tuple(variable.shape) for variable in variables]
    if found != list(shapes.values()):
        raise WeightsError(
            f"not ResNet50: layer {name} has variables of shape {found} where {list(shapes.values())} belong"
        )
    arrays = []
    for variable, label in zip(variables, shapes, strict=True):
        if np.dtype(variable.dtype).kind != "f":
            raise WeightsError(f"layer {name} holds {variable.dtype} instead of floating-point numbers")
        array = np.asarray(variable, dtype=np.float32)
        if not np.isfinite(array).all():
            raise WeightsError(f"layer {name} holds a {label} that is not finite, so the file is damaged")
        arrays.append(array)
    return arrays


def _epsilon(stored: StoredNetwork) -> float:
    if stored.config is None:
        return OLD_EPSILON if any(map(layer_names.is_old, stored.layers)) else NEW_EPSILON
    try:
        configured = {
            float(layer["config"].get("epsilon", OLD_EPSILON))
            for layer in stored.config["config"]["layers"]
            if layer["class_name"] == "BatchNormalization"
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError("its config is not that of a Keras model with layers") from error
    if len(configured) != 1:
        raise WeightsError(f"its config has BatchNormalization epsilons {sorted(configured)}, not one for all")
    return configured.pop()
