import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import numpy as np

from visionserve.environment import environment
from visionserve.errors import MissingError, ModelError, install_command
from visionserve.models.builds.openvino.model import import_openvino

# NNCF's own default.
MOST_PICTURES = 300
# Symmetric activations, which are the faster.
PRESET = "performance"
# Builds were nearer to fp32 without NNCF's correction, and with the last layer, a two-thousandth of the work, in float.
BIAS_CORRECTION = False
IN_FLOAT = ["MatMul"]
# What the layers with weights of 7 bits are called here, and by NNCF.
OVERFLOW_FIXES = {"first-layer": "first_layer_only", "all-layers": "enable", "none": "disable"}


def import_nncf() -> Any:
    """nncf without its telemetry, as import_openvino. Raises MissingError where it is not installed."""
    import_openvino()
    # Both are read as it is imported: what reports, and what leaves files in the user's home.
    with environment(NNCF_CI="1", CI="true"):
        try:
            import nncf
        except ImportError as error:
            raise MissingError(
                f"int8 needs NNCF, which is not installed ({error}): run {install_command('int8')}"
            ) from error
    nncf.set_log_level(logging.WARNING)
    return nncf


def settings(overflow_fix: str) -> dict[str, bool | int | float | str | list[int] | list[str]]:
    """What NNCF is told, as a build's manifest records it."""
    return {
        "preset": PRESET,
        "overflow_fix": overflow_fix,
        "bias_correction": BIAS_CORRECTION,
        "in_float": IN_FLOAT,
    }


def quantize(model: Any, pictures: np.ndarray, overflow_fix: str) -> Any:
    """An openvino.Model -> one whose convolutions are computed in int8, by NNCF's post-training quantization;
    `pictures`: uint8 RGB [N, 224, 224, 3], which the ranges of activations are learned from.

    CPUs without VNNI instructions add pairs of 8-bit products in 16 bits, which saturate: answers become wrong. Weights
    of half the range, 7 bits, cannot bring them there; `overflow_fix`, one of OVERFLOW_FIXES, says which layers get
    them.
    Raises ModelError where NNCF cannot quantize the model.
    """
    nncf = import_nncf()
    try:
        with _progress_on_stderr():
            return nncf.quantize(
                model,
                nncf.Dataset([picture[np.newaxis] for picture in pictures]),
                preset=nncf.QuantizationPreset(PRESET),
                subset_size=len(pictures),
                ignored_scope=nncf.IgnoredScope(types=IN_FLOAT),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    overflow_fix=nncf.OverflowFix(OVERFLOW_FIXES[overflow_fix]),
                    disable_bias_correction=not BIAS_CORRECTION,
                ),
            )
    except (RuntimeError, ValueError, nncf.ValidationError, nncf.InternalError, nncf.UnsupportedModelError) as error:
        raise ModelError(f"NNCF cannot quantize the model: {str(error).strip().splitlines()[-1]}") from error


@contextmanager
def _progress_on_stderr() -> Iterator[None]:
    """NNCF draws progress bars on stdout, and draws them too where no terminal is."""
    if sys.stderr.isatty():
        with redirect_stdout(sys.stderr):
            yield
    else:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            yield
