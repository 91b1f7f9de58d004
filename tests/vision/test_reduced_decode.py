from pathlib import Path

import numpy as np
import pytest

from tests.large_photos import jpeg_crops, large_photographs, without_reduction
from visionserve.cores import available_cores
from visionserve.inference.engines import load_engine
from visionserve.inference.model_folder import find_version
from visionserve.inference.signature_key import DEFAULT_SIGNATURE
from visionserve.vision.header import read_header
from visionserve.vision.pixels import to_input

CROPS = 208
SHORTEST = 700
LONGEST = 3000
# Two and a half times ResNet's short side of 256, at half the scale: smaller pictures are decoded in full.
REDUCED_FROM = 1280
BATCH = 8


@pytest.fixture(scope="module")
def crops(request: pytest.FixtureRequest) -> list[bytes]:
    photos = large_photographs(Path(request.config.cache.mkdir("photographs")))
    return jpeg_crops(photos, CROPS, SHORTEST, LONGEST)


def probabilities(model: Path, pixels: np.ndarray) -> np.ndarray:
    engine = load_engine("openvino", find_version(model)[1], DEFAULT_SIGNATURE, available_cores())
    batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
    rows = np.concatenate([engine.infer({"input": batch})["output"] for batch in batches])
    engine.close()
    return rows


def top5(probabilities: np.ndarray) -> np.ndarray:
    return np.sort(np.argsort(probabilities, axis=1)[:, -5:], axis=1)


def test_a_reduced_decoding_answers_as_the_full_one_does(
    model: Path, crops: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    reduced = np.stack([to_input(jpeg) for jpeg in crops])
    full = np.stack([to_input(without_reduction(jpeg)) for jpeg in crops])
    answers, expected = probabilities(model, reduced), probabilities(model, full)
    first = answers.argmax(axis=1) == expected.argmax(axis=1)
    sure = expected.max(axis=1) >= 0.5
    five = (top5(answers) == top5(expected)).all(axis=1)
    small = np.array([read_header(jpeg).width >= REDUCED_FROM for jpeg in crops])
    with capsys.disabled():
        print(
            f"\nreduced against full decoding, {len(crops)} crops of {SHORTEST} to {LONGEST} pixels: "
            f"top-1 agrees on {first.mean():.1%}, on {first[sure].sum()} of the {sure.sum()} that are at least 0.5 "
            f"sure; top-5 sets on {five.mean():.1%}. Of the {small.sum()} decoded at a reduced scale: top-1 on "
            f"{first[small].mean():.1%}, top-5 sets on {five[small].mean():.1%}. No probability moves by more than "
            f"{np.abs(answers - expected).max():.3f}"
        )
    assert small.sum() >= CROPS // 2
    assert sure.sum() >= CROPS // 10
    assert first[sure].all()
    assert first.mean() >= 0.97
    assert five.mean() >= 0.92
