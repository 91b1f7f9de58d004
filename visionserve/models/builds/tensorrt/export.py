import os
import subprocess
import sys
import tempfile
from pathlib import Path
from signal import Signals

import numpy as np

from visionserve.errors import MissingError, ModelError, UsageError
from visionserve.models.builds.exported import Accelerated
from visionserve.models.builds.folder import build_written_atomically
from visionserve.models.builds.graph import read_saved_model
from visionserve.models.builds.manifest import Manifest
from visionserve.models.builds.recipe import Recipe
from visionserve.models.builds.signature import DEFAULT
from visionserve.models.builds.tensorrt import converter
from visionserve.models.builds.tensorrt.checks import check_answers, check_engines, check_segments, check_signature
from visionserve.models.builds.tensorrt.converter import Job, Settings
from visionserve.models.builds.tensorrt.parts import Parts, library_path

NUMBER = 1


def recipe(parts: Parts, settings: Settings) -> Recipe:
    """How export_tensorrt makes a build with these."""
    return Recipe(
        target="tensorrt",
        number=NUMBER,
        packages={"tensorflow": parts.tensorflow, "tensorrt": parts.tensorrt},
        settings={**settings.model_dump(), "precision": "FP16", "gpu": parts.gpu},
    )


def export_tensorrt(
    model: Path, manifest: Manifest, folder: Path, parts: Parts, settings: Settings, pictures: np.ndarray
) -> Accelerated:
    """Converts the CPU build at `model`, with its manifest, by TF-TRT, with TensorRT engines in FP16 built in advance.

    Its one signature is serving_default, as the CPU build has it; image_bytes stays with that, for the converter takes
    one. Engines run on the kind of GPU and the version of TensorRT that built them. Batches over the largest of
    settings.batch_sizes are answered too, by TensorFlow's own operations.
    Before the build takes its place at `folder`, check_signature, check_segments, check_engines and check_answers, on
    `pictures`, uint8 RGB [N, 224, 224, 3], must pass: else ModelError, and what was at `folder` stays. UsageError where
    `folder` is something else than a build, or the batch sizes lack 1.
    """
    if 1 not in settings.batch_sizes:
        raise UsageError("--batch-sizes lack 1, which is the batch of a request that comes alone")
    signature = manifest.signature(DEFAULT)
    with build_written_atomically(folder) as work, tempfile.TemporaryDirectory(prefix="tensorrt-") as aside:
        job = Job(
            model=model,
            input=signature.inputs[0].name,
            pictures=Path(aside) / "pictures.npy",
            folder=work,
            answers=Path(aside),
            settings=settings,
        )
        np.save(job.pictures, pictures)
        run_apart("convert", job, parts)
        saved_model = read_saved_model(work)
        check_signature(saved_model, signature)
        in_segments = check_segments(saved_model)
        check_engines(saved_model, work)
        run_apart("answer", job, parts)
        agreement = check_answers(job)
        recipe(parts, settings).manifest(manifest, work, agreement, in_segments=in_segments).write(work)
    return Accelerated(folder, in_segments, agreement)


def run_apart(step: str, job: Job, parts: Parts) -> None:
    """A step of `converter` in a process of its own. Raises its error, or ModelError where it died otherwise."""
    file = job.answers / "job.json"
    file.write_text(job.model_dump_json(), encoding="utf-8")
    with library_path(parts.libraries) as path:
        done = subprocess.run(
            [sys.executable, "-m", converter.__name__, step, str(file)],
            env={**os.environ, "LD_LIBRARY_PATH": path, "TF_CPP_MIN_LOG_LEVEL": "1"},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    said = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "it said nothing")
    if done.returncode < 0:
        raise ModelError(f"{Signals(-done.returncode).name} ended TF-TRT as it was to {step} the model: {said}")
    if done.returncode:
        raise {MissingError.exit_code: MissingError}.get(done.returncode, ModelError)(said)
