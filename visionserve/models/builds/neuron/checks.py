from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionserve.errors import ModelError
from visionserve.models.builds.agreement import Agreement, check_fp16, worst
from visionserve.models.builds.graph import read_saved_model
from visionserve.models.builds.neuron.operations import neuron_placement
from visionserve.models.builds.signature import DEFAULT, LoadedSignature

LEAST_ON_NEURON = 0.95
CPU_BATCH = 8


def check_operations(traced: Iterable[Any], folder: Path) -> float:
    """The part of the operations that are on Neuron, by the graph of the SavedModel at `folder`.

    Raises ModelError where it, or what the compiler says of one of the `traced` models, is under 95 %.
    """
    said = min(float(getattr(model, "on_neuron_ratio", 0)) for model in traced)
    # AWS's documentation calls it a percentage; its source divides the one count by the other.
    said = said / 100 if said > 1 else said
    held = neuron_placement(read_saved_model(folder), DEFAULT)
    left = ", ".join(f"{count} {operation}" for operation, count in held.outside.most_common(5))
    for fraction, source in [
        (said, "by what the compiler says"),
        (held.fraction, f"by its graph, which leaves {left}"),
    ]:
        # Written so that a NaN fails too.
        if not fraction >= LEAST_ON_NEURON:
            raise ModelError(
                f"only {fraction:.1%} of the compiled model's operations are on Neuron, {source}, and "
                f"{LEAST_ON_NEURON:.0%} must be, so it was discarded: export it again with "
                f"NEURON_CC_FLAGS=--workdir=FOLDER for the compiler's logs"
            )
    return held.fraction


def check_answers(cpu: LoadedSignature, folder: Path, batch_sizes: Sequence[int], pictures: np.ndarray) -> Agreement:
    """How the SavedModel at `folder` agrees with the CPU build on `pictures`, at the batch size where it is worst.

    Raises ModelError where its signature is another one, a class is another one, or a probability differs by more
    than 2e-2.
    """
    compiled = LoadedSignature(folder)
    if compiled.signature != cpu.signature:
        raise ModelError(
            f"the compiled model's signature is {compiled.signature!r} and the CPU build's {cpu.signature!r}, so it "
            f"was discarded"
        )
    wanted = cpu.answers(pictures, CPU_BATCH)
    # One more than the largest is compiled for has to come in two goes.
    sizes = sorted({*batch_sizes, max(batch_sizes) + 1})
    return worst([check_fp16(compiled.answers(pictures, batch_size), wanted, batch_size) for batch_size in sizes])
