"""A bucket of the real Ceph that a test has to itself, and builds to put there."""

import hashlib
import json
import random
import secrets
from pathlib import Path

from tests.ceph import Ceph
from visionserve.models.builds.manifest import Manifest, WeightsOrigin, file_hashes

# What is sent in two parts.
LARGE = 20_000_000


class Bucket:
    def __init__(self, ceph: Ceph) -> None:
        self.name = f"tests-{secrets.token_hex(6)}"
        self.client = ceph.client()
        self.client.create_bucket(Bucket=self.name)

    @property
    def url(self) -> str:
        return f"s3://{self.name}/models"

    def objects(self) -> dict[str, tuple]:
        """Key -> what changes when it is written again, for everything in the bucket."""
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {each["Key"]: (each["ETag"], each["LastModified"]) for each in found}

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()

    def put(self, key: str, data: bytes, **options: object) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data, **options)

    def unfinished(self) -> list[str]:
        """The keys of files that were being sent in parts."""
        found = self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])
        return [each["Key"] for each in found]

    def holds(self, build: Path, address: str) -> bool:
        """Whether the version folder of a build is at s3://bucket/prefix, file for file, with nothing beside it."""
        prefix = address.removeprefix(f"s3://{self.name}/") + "/1/"
        there = {
            key.removeprefix(prefix): hashlib.sha256(self.read(key)).hexdigest()
            for key in self.objects()
            if key.startswith(prefix)
        }
        here = {**file_hashes(build), "model.json": hashlib.sha256((build / "model.json").read_bytes()).hexdigest()}
        return there == here


def write_build(folder: Path, seed: str = "", with_variables: bool = True, large: int = 3000) -> Path:
    """A version folder laid out as a SavedModel, its files of random bytes: nothing on their way reads a model."""
    files = {"saved_model.pb": 5000}
    if with_variables:
        files |= {"variables/variables.data-00000-of-00001": large, "variables/variables.index": 0}
    for path, size in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(random.Random(f"{path} {seed}").randbytes(size))
    origin = WeightsOrigin(source="a test", sha256="0" * 64, epsilon=1e-3, parameters=1)
    Manifest(
        model="resnet50",
        target="cpu",
        recipe=1,
        created="2026-01-01T00:00:00Z",
        weights=origin,
        versions={},
        signatures=[],
        files=file_hashes(folder),
        classes=[],
    ).write(folder)
    return folder


def rewrite_manifest(build: Path, **changes: object) -> None:
    file = build / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
