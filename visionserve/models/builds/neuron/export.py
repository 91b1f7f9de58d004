from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionserve.environment import environment
from visionserve.errors import ModelError
from visionserve.models.builds.exported import Accelerated
from visionserve.models.builds.folder import build_written_atomically
from visionserve.models.builds.manifest import Manifest, Signature
from visionserve.models.builds.neuron.checks import check_answers, check_operations
from visionserve.models.builds.neuron.compilers import Compiler, Target
from visionserve.models.builds.neuron.parts import installed_version
from visionserve.models.builds.recipe import Recipe
from visionserve.models.builds.signature import DEFAULT, LoadedSignature
from visionserve.models.tensorflow import import_tensorflow

NUMBER = 1


def recipe(compiler: Compiler, target: Target, batch_sizes: Sequence[int]) -> Recipe:
    """How export_neuron makes a build with these. Raises UsageError as Compiler.options."""
    packages = {name: installed_version(name) for name in (compiler.package, compiler.command, "tensorflow")}
    return Recipe(
        target="neuron",
        number=NUMBER,
        packages={name: number for name, number in packages.items() if number},
        settings={
            "compiler": compiler.command,
            "flags": compiler.flags(target).split(),
            "batch_sizes": sorted(batch_sizes),
            "cores": target.cores,
            "static_weights": target.static_weights,
            "cast": "fp16",
        },
    )


def export_neuron(
    model: Path,
    manifest: Manifest,
    folder: Path,
    compiler: Compiler,
    target: Target,
    batch_sizes: Sequence[int],
    pictures: np.ndarray,
) -> Accelerated:
    """Compiles the CPU build at `model`, with its manifest, for Neuron; its signature serving_default stays as it is.

    Compiled code has one batch size. A batch of N goes to the smallest of `batch_sizes` that holds it, filled up, else
    to the largest, cut into pieces.
    Before the build takes its place at `folder`, check_operations and check_answers, on `pictures`, uint8 RGB
    [N, 224, 224, 3], must pass: else ModelError, and what was at `folder` stays. UsageError where `folder` is something
    else than a build; MissingError where the compiler cannot be loaded.
    """
    making = recipe(compiler, target, batch_sizes)
    sizes = making.settings["batch_sizes"]
    # A process otherwise takes all NeuronCores of the machine, and fails where another one holds some of them.
    with build_written_atomically(folder) as work, environment(NEURON_RT_NUM_CORES=str(target.cores)):
        cpu = LoadedSignature(model)
        traced = _trace(cpu, compiler, target, sizes)
        _write(traced, cpu.signature, work)
        on_neuron = check_operations(traced.values(), work)
        agreement = check_answers(cpu, work, sizes, pictures)
        making.manifest(manifest, work, agreement, on_neuron=on_neuron).write(work)
    return Accelerated(folder, on_neuron, agreement)


def _trace(cpu: LoadedSignature, compiler: Compiler, target: Target, batch_sizes: Sequence[int]) -> dict[int, Any]:
    """Batch size -> what was compiled for it."""
    tensorflow = import_tensorflow()
    [given] = cpu.signature.inputs

    def serve(pixels: Any) -> Any:
        return cpu(pixels)

    examples = {count: tensorflow.zeros([count, *given.shape[1:]], given.dtype) for count in batch_sizes}
    return {count: compiler.trace(serve, example, target) for count, example in examples.items()}


def _write(traced: dict[int, Any], signature: Signature, folder: Path) -> None:
    tensorflow = import_tensorflow()
    [given], [answer] = signature.inputs, signature.outputs
    sizes = sorted(traced)

    def run(model: Any, pixels: Any) -> Any:
        # The tracing API makes a list of one output of some functions' answers.
        [output] = tensorflow.nest.flatten(model(pixels))
        # A NeuronOp does not tell its shape.
        output.set_shape(answer.shape)
        return output

    def serve(pixels: Any) -> dict[str, Any]:
        if len(sizes) == 1:
            return {answer.name: run(traced[sizes[0]], pixels)}
        too_small = tensorflow.less(sizes[:-1], tensorflow.shape(pixels)[0])
        branches = [lambda model=traced[count]: run(model, pixels) for count in sizes]
        chosen = tensorflow.math.count_nonzero(too_small, dtype=tensorflow.int32)
        return {answer.name: tensorflow.switch_case(chosen, branches)}

    specification = tensorflow.TensorSpec(given.shape, given.dtype, given.name)
    try:
        function = tensorflow.function(serve, input_signature=[specification], autograph=False)
        tensorflow.saved_model.save(tensorflow.Module(), str(folder), signatures={DEFAULT: function})
    except (ValueError, TypeError, AssertionError, tensorflow.errors.OpError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"what was compiled cannot be saved as {DEFAULT}, so it was discarded: {reason}") from error
