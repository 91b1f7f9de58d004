import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from visionserve.cores import available_cores
from visionserve.errors import ModelError
from visionserve.models.builds.agreement import Agreement, compare
from visionserve.models.builds.folder import build_written_atomically, size
from visionserve.models.builds.manifest import Manifest
from visionserve.models.builds.openvino import quantization
from visionserve.models.builds.openvino.model import CompiledModel, import_openvino, read_model
from visionserve.models.builds.openvino.own_thread import in_own_thread
from visionserve.models.builds.openvino.speed import Speed, measure_by_turns
from visionserve.models.builds.recipe import Recipe

NUMBER = 1
GRAPH = "model.xml"
LARGEST_DIFFERENCE_OF_FP16 = 5e-3


@dataclass(frozen=True)
class Options:
    """`calibration`: uint8 RGB [N, 224, 224, 3] to quantize to int8 with, None for weights of FP16. `evaluation`: those
    that it is checked on. `min_agreement`: the least part of them whose likeliest class must be that of the CPU build.
    `overflow_fix`: as in quantization.quantize.
    """

    evaluation: np.ndarray
    min_agreement: float
    calibration: np.ndarray | None = None
    overflow_fix: str = "first-layer"

    def recipe(self) -> Recipe:
        """How export_openvino makes a build by these. OpenVINO must be installed, and for int8 NNCF."""
        packages = ["openvino"]
        settings: dict[str, Any] = {"precision": "fp16 weights", "evaluation": _sha256(self.evaluation)}
        if self.calibration is not None:
            packages.append("nncf")
            settings |= {"precision": "int8", **quantization.settings(self.overflow_fix)}
            settings |= {"calibration": _sha256(self.calibration), "calibration_pictures": len(self.calibration)}
        return Recipe("openvino", NUMBER, {package: version(package) for package in packages}, settings)


@dataclass(frozen=True)
class Exported:
    """`agreement`: with the CPU build in fp32. `speeds`: beside it, by batch size. `threads`: for both."""

    folder: Path
    agreement: Agreement
    speeds: list[Speed]
    threads: int

    @property
    def size(self) -> int:
        """In bytes."""
        return size(self.folder)


def is_exported(cpu: Manifest, folder: Path, options: Options) -> bool:
    """Whether `folder` holds, whole, what export_openvino would write there by `options`, which must be met."""
    made = options.recipe().made(cpu, folder)
    return made is not None and made.agreement is not None and made.agreement.top1 >= options.min_agreement


def export_openvino(model: Path, manifest: Manifest, folder: Path, options: Options) -> Exported:
    """Writes the CPU build at `model`, with its manifest, in OpenVINO's own format (model.xml, model.bin): `input`,
    uint8 RGB [N, 224, 224, 3], N being open, gives `output`, float32 probabilities [N, 1000], as there.

    Before it takes its place at `folder` it is loaded back and compared with the CPU build, both run by OpenVINO on all
    cores that this process may use. ModelError, and what was at `folder` stays, where fewer of the pictures than
    `options.min_agreement` keep their likeliest class, or where weights of FP16 change a probability by more than 5e-3.
    UsageError where `folder` is something else than a build; MissingError where OpenVINO or NNCF is not installed.
    """
    threads = available_cores()

    def made(work: Path) -> tuple[Agreement, list[Speed]]:
        _write(model, work, options)
        build, reference = (CompiledModel(read_model(path), threads) for path in (work / GRAPH, model))
        agreement = compare(build.answers(options.evaluation), reference.answers(options.evaluation))
        _check(agreement, options)
        return agreement, measure_by_turns(build, reference, options.evaluation)

    with build_written_atomically(folder) as work:
        agreement, speeds = in_own_thread(lambda: made(work))
        options.recipe().manifest(manifest, work, agreement).write(work)
    return Exported(folder, agreement, speeds, threads)


def _write(model: Path, folder: Path, options: Options) -> None:
    network = read_model(model)
    if options.calibration is not None:
        network = quantization.quantize(network, options.calibration, options.overflow_fix)
    import_openvino().save_model(network, folder / GRAPH, compress_to_fp16=True)


def _check(agreement: Agreement, options: Options) -> None:
    if not agreement.top1 >= options.min_agreement:
        raise ModelError(
            f"the build agrees with fp32's likeliest class on {agreement.top1:.1%} of {agreement.pictures} pictures, "
            f"not on {options.min_agreement:.1%}, so it was discarded: {_remedy(options)}"
        )
    if options.calibration is None and not agreement.largest_difference <= LARGEST_DIFFERENCE_OF_FP16:
        raise ModelError(
            f"the build's probabilities differ from fp32's by {agreement.largest_difference:.2g}, more than "
            f"{LARGEST_DIFFERENCE_OF_FP16:g}, so it was discarded"
        )


def _remedy(options: Options) -> str:
    if options.calibration is None:
        return "lower --min-agreement"
    remedy = "calibrate with more pictures like those to be classified, or lower --min-agreement"
    return remedy if options.overflow_fix == "all-layers" else f"try --overflow-fix all-layers, {remedy}"


def _sha256(pictures: np.ndarray) -> str:
    return hashlib.sha256(pictures.tobytes()).hexdigest()
