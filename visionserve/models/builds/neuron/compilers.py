"""The two packages that compile TensorFlow graphs for Neuron devices, and what each has to be told.

Sources: AWS Neuron's tracing API of tensorflow-neuron and of tensorflow-neuronx, its CLI references of neuron-cc and of
neuronx-cc, and the source of tensorflow-neuron (aws-neuron-tensorflow on GitHub).
"""

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from visionserve.environment import environment
from visionserve.errors import MissingError, ModelError, UsageError
from visionserve.models.tensorflow import import_tensorflow

FLAGS = "NEURON_CC_FLAGS"
# An option of the tracing API: a batch of another size than was compiled is cut into batches of that size, the last of
# them filled up with zeros.
DYNAMIC_BATCH_SIZE = "--dynamic-batch-size"


@dataclass(frozen=True)
class Target:
    """What a build is compiled for. `cores`: NeuronCores that one copy of the model is spread over."""

    cores: int = 1
    static_weights: bool = True


class Compiler(ABC):
    """`package`: the distribution with the tracing API, `module`: where it is imported from, `command`: the compiler
    that it starts, `virtual_environment`: where AWS's multi-framework machine image has all of it."""

    package: str
    module: str
    command: str
    instances: str
    requirements: str
    virtual_environment: str

    @abstractmethod
    def options(self, target: Target) -> list[str]:
        """For NEURON_CC_FLAGS. Raises UsageError where the compiler has no such option."""

    def flags(self, target: Target) -> str:
        """NEURON_CC_FLAGS for a compilation: the user's own first, for of an option given twice the last one holds."""
        return " ".join(filter(None, [os.environ.get(FLAGS), *self.options(target)]))

    def trace(self, function: Callable[[Any], Any], example: Any, target: Target) -> Any:
        """`function`, which maps a tensor to a tensor, compiled for tensors of the shape and dtype of `example`.

        The answer is callable like `function`; its `on_neuron_ratio` is the part of the operations that run on Neuron.
        Raises MissingError where the tracing API cannot be imported, ModelError where the compiler fails.
        """
        tensorflow = import_tensorflow()
        flags = self.flags(target)
        try:
            tracing = importlib.import_module(self.module)
        except ImportError as error:
            raise MissingError(
                f"{self.package} cannot be imported ({error}): run pip install -r {self.requirements}"
            ) from error
        try:
            with environment(**{FLAGS: flags}):
                return tracing.trace(function, example)
        except (RuntimeError, ValueError, TypeError, AssertionError, OSError, tensorflow.errors.OpError) as error:
            reason = str(error).partition("\n")[0]
            raise ModelError(f"{self.command} could not compile the model with {flags}: {reason}") from error


class NeuronCc(Compiler):
    """inf1: tensorflow-neuron 2.x, which starts neuron-cc.

    Its 1.15 would need Python 3.7, which visionserve does not run on.
    """

    package = "tensorflow-neuron"
    module = "tensorflow.neuron"
    command = "neuron-cc"
    instances = "inf1"
    requirements = "requirements/neuron.txt"
    virtual_environment = "/opt/aws_neuron_venv_tensorflow_2_10_inf1"

    def options(self, target: Target) -> list[str]:
        """--fp32-cast=all-fp16 casts all float32 operations to FP16. Its newer name, --fast-math, would be lost: the
        tracing API always hands on an --fp32-cast, by default matmult-fp16, and that one wins.

        --neuroncore-pipeline-cores is given for one core too: without it the tracing API adds
        --enable-fast-context-switch, which loads weights only when an inference starts. --static-weights keeps them on
        the cores; the reference leaves it out, AWS's own example of ResNet50 on inf1 hands it to neuron-cc, and
        compiles without it where neuron-cc refuses it.
        """
        static = ["--static-weights"] if target.static_weights else []
        cores = f"--neuroncore-pipeline-cores={target.cores}"
        return ["--fp32-cast=all-fp16", cores, *static, DYNAMIC_BATCH_SIZE]


class NeuronxCc(Compiler):
    """inf2 and trn1: tensorflow-neuronx, which starts neuronx-cc."""

    package = "tensorflow-neuronx"
    module = "tensorflow_neuronx"
    command = "neuronx-cc"
    instances = "inf2 or trn1"
    requirements = "requirements/neuronx.txt"
    virtual_environment = "/opt/aws_neuronx_venv_tensorflow_2_10"

    def options(self, target: Target) -> list[str]:
        """--auto-cast=all --auto-cast-type=fp16 casts all float32 operations to FP16.

        One core and static weights have no option here. A traced model runs on one NeuronCore unless auto_multicore
        spreads copies of it; tracing turns the weights into constants of the executable, which is loaded once, unless
        --extract-weights or --enable-fast-context-switch is given.
        """
        if target.cores != 1:
            raise UsageError(
                f"--cores {target.cores}: neuronx-cc compiles a model for one NeuronCore; leave --cores at 1"
            )
        if not target.static_weights:
            raise UsageError("--no-static-weights: neuronx-cc has no such option, its weights are always constants")
        return ["--auto-cast=all", "--auto-cast-type=fp16", DYNAMIC_BATCH_SIZE]


COMPILERS: tuple[Compiler, ...] = (NeuronCc(), NeuronxCc())
