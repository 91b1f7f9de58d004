"""The steps of a conversion that load TensorRT: each a process of its own, for TensorRT may abort it, its libraries
have to be in the loader's path when it starts, and what it holds of the GPU is free when it ends."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from visionserve.environment import environment
from visionserve.errors import MissingError, ModelError, VisionserveError
from visionserve.models.builds.graph import nodes_of, read_saved_model
from visionserve.models.builds.signature import DEFAULT, LoadedSignature
from visionserve.models.tensorflow import import_tensorflow

ENGINE = "TRTEngineOp"
# A profile for each batch size alone, at its best, then one for all between the smallest and the largest: TF-TRT takes
# the first that fits. By its default, Range, all sizes run as it suits the largest.
PROFILES = "Range+Optimal"
CPU = "cpu.npy"
CPU_BATCH = 8


class Settings(BaseModel):
    """`batch_sizes`, rising, hold 1. `shapes`: dynamic makes one engine with a profile for each batch size and one for
    those between; static makes one engine for each batch size, and a batch takes the next larger one, filled up."""

    batch_sizes: list[int]
    minimum_segment_size: int = 3
    shapes: Literal["dynamic", "static"] = "dynamic"

    def checked_batch_sizes(self) -> list[int]:
        """Those built for, and one between them, as server-side batching makes them too."""
        return sorted({*self.batch_sizes, max(max(self.batch_sizes) - 1, 1)})


class Job(BaseModel):
    """`model`: the CPU build, whose one input is `input`. `pictures`: .npy, uint8 RGB [N, 224, 224, 3]. `folder`: where
    to write the build. `answers`: a folder for cpu.npy and 1.npy, 2.npy ... for each batch size: float32 [N, 1000]."""

    model: Path
    input: str
    pictures: Path
    folder: Path
    answers: Path
    settings: Settings


def convert(job: Job) -> None:
    """Writes the SavedModel with TensorRT engines in FP16, built with the pictures at each batch size.

    It has the signature serving_default alone: the converter takes one. TF-TRT freezes the variables itself.
    Raises MissingError where TensorFlow has no TF-TRT or sees no GPU, ModelError where the conversion fails.
    """
    tensorflow = import_tensorflow()
    settings = job.settings
    try:
        converter = converter_class()(
            input_saved_model_dir=str(job.model),
            input_saved_model_signature_key=DEFAULT,
            use_dynamic_shape=settings.shapes == "dynamic",
            dynamic_shape_profile_strategy=PROFILES if settings.shapes == "dynamic" else None,
            precision_mode="FP16",
            minimum_segment_size=settings.minimum_segment_size,
            # One more, for a batch over the largest takes a place as well, where the shapes are static.
            maximum_cached_engines=len(settings.batch_sizes) + 1,
            use_calibration=False,
            # Told False, TensorFlow 2.17's save() loses the names of the outputs; forbid_builds does the same after it.
            allow_build_at_runtime=True,
        )
        converter.convert()
        converter.build(input_fn=lambda: _batches(job))
        converter.save(str(job.folder))
    except (ValueError, RuntimeError, AssertionError, OSError, tensorflow.errors.OpError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"TF-TRT could not convert the model: {reason}") from error
    forbid_builds(job.folder)


def converter_class() -> Any:
    """TrtGraphConverterV2. Raises MissingError where it could not work."""
    tensorflow = import_tensorflow()
    if not tensorflow.sysconfig.get_build_info().get("is_tensorrt_build"):
        raise MissingError(
            f"this TensorFlow {tensorflow.__version__} was built without TF-TRT: run pip install tensorflow==2.17.1"
        )
    if not tensorflow.config.list_physical_devices("GPU"):
        raise MissingError(
            "there is a GPU, and TensorFlow cannot use it, mostly for want of CUDA's libraries: run "
            "pip install -r requirements/tensorrt.txt"
        )
    return tensorflow.experimental.tensorrt.Converter


def _batches(job: Job) -> Iterator[dict[str, np.ndarray]]:
    pictures = np.load(job.pictures)
    # Rising: with static shapes an engine serves smaller batches too, and none would be built for them after it.
    for size in job.settings.batch_sizes:
        yield {job.input: np.resize(pictures, (size, *pictures.shape[1:]))}


def forbid_builds(folder: Path) -> None:
    """No request then waits for an engine: a batch that none fits is run by TensorFlow's own operations, in FP32."""
    saved_model = read_saved_model(folder)
    for node in nodes_of(saved_model):
        if node.op == ENGINE:
            node.attr["_allow_build_at_runtime"].b = False
    (folder / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    # It no longer fits, and no reader needs one.
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def answer(job: Job) -> None:
    """Writes what the CPU build and the converted one answer for the pictures, the latter at each batch size.

    Raises ModelError where one of them fails, and so where TensorRT does not run the whole of a segment.
    """
    tensorflow = import_tensorflow()
    pictures = np.load(job.pictures)
    with tensorflow.device("/CPU:0"):
        np.save(job.answers / CPU, LoadedSignature(job.model).answers(pictures, CPU_BATCH))
    # Else TensorFlow's own operations would answer in place of an engine that is missing or fails.
    with environment(TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION="false"):
        converted = LoadedSignature(job.folder)
        for size in job.settings.checked_batch_sizes():
            # So often the same pictures that the last batch is full.
            full = np.resize(pictures, (-(-len(pictures) // size) * size, *pictures.shape[1:]))
            np.save(job.answers / f"{size}.npy", converted.answers(full, size)[: len(pictures)])


STEPS = {"convert": convert, "answer": answer}


def main(step: str, job: str) -> None:
    try:
        STEPS[step](Job.model_validate_json(Path(job).read_text(encoding="utf-8")))
    except VisionserveError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:])
