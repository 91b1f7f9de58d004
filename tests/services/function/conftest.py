from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ceph import Ceph
from tests.photos import encoded, photographs
from tests.services.function.functions import BUCKET, RunningFunction, running_function, s3_environment

MAX_IMAGE_BYTES = 1_000_000


@pytest.fixture(scope="session")
def function(model: Path) -> Iterator[RunningFunction]:
    """The function without S3."""
    with running_function() as function:
        yield function


@pytest.fixture(scope="session")
def bucket(ceph: Ceph) -> str:
    """With a photo of a cat and one of a cup of coffee, and what is neither."""
    s3 = ceph.client()
    s3.create_bucket(Bucket=BUCKET)
    objects = {
        "cat.jpg": encoded(photographs()["chelsea"], ".jpg"),
        "coffee.png": encoded(photographs()["coffee"]),
        "a cat + Zoë.jpg": encoded(photographs()["chelsea"], ".jpg"),
        "notes.txt": b"no image",
        "large.bmp": encoded(photographs()["retina"], ".bmp"),
    }
    for key, content in objects.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    assert len(objects["large.bmp"]) > MAX_IMAGE_BYTES
    return BUCKET


@pytest.fixture(scope="session")
def s3_function(model: Path, ceph: Ceph, bucket: str) -> Iterator[RunningFunction]:
    """The function with a real Ceph for its S3."""
    with running_function(**s3_environment(ceph, MAX_IMAGE_BYTES=MAX_IMAGE_BYTES)) as function:
        yield function
