import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionserve.errors import ModelError
from visionserve.models.bucket import Location
from visionserve.models.publishing.build import Build

# Files from this size on are sent in parts of this size, four at a time: what a broken connection costs at most.
PART = 1 << 24
PARTS_AT_A_TIME = 4
CHUNK = 1 << 20


@dataclass(frozen=True)
class Upload:
    """A build's place on S3. The address ends in the build's digest, so no other build is ever written there."""

    client: Any
    build: Build
    location: Location

    def missing(self) -> list[str]:
        """The build's files that S3 does not hold, whole and with the right content."""
        return [path for path in self.build.files if not self._is_there(path)]

    def send(self, paths: list[str], progress: Callable[[int], None]) -> None:
        """Sends files of the build, and returns when S3 holds the whole of it.

        `progress` is told the bytes that were sent since its last call, in several threads.
        Raises ModelError where a file arrived otherwise than it was sent, or has changed here meanwhile.
        """
        from boto3.s3.transfer import TransferConfig

        # The other implementation, in C, chooses sizes of parts by itself, so that no ETag could be foretold.
        config = TransferConfig(
            multipart_threshold=PART,
            multipart_chunksize=PART,
            max_concurrency=PARTS_AT_A_TIME,
            preferred_transfer_client="classic",
        )
        self._discard_parts()
        for path in paths:
            try:
                self.client.upload_file(
                    str(self.build.folder / path),
                    self.location.bucket,
                    self._key(path),
                    ExtraArgs={"Metadata": {"sha256": self.build.files[path]}},
                    Config=config,
                    Callback=progress,
                )
            except OSError as error:
                raise ModelError(f"{self.build.folder / path} could not be read: {error.strerror or error}") from error
        if wrong := self.missing():
            raise ModelError(
                f"{self.location} does not hold {', '.join(wrong)} as in {self.build.folder}: run this command again"
            )

    def _discard_parts(self) -> None:
        """What a killed run left of files sent in parts: it takes room, and no listing of objects shows it.

        Another run that is sending the same build at this moment loses its parts too, and fails with a sentence.
        """
        from botocore.exceptions import ClientError

        # Not every server and every user may do this, and without it the upload is as good.
        with contextlib.suppress(ClientError):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.location.bucket, Prefix=self._key("")
            )
            for upload in [upload for page in pages for upload in page.get("Uploads", [])]:
                self.client.abort_multipart_upload(
                    Bucket=self.location.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )

    def _key(self, path: str) -> str:
        return self.location.key(f"{self.build.version}/{path}")

    def _is_there(self, path: str) -> bool:
        from botocore.exceptions import ClientError

        file = self.build.folder / path
        try:
            found = self.client.head_object(Bucket=self.location.bucket, Key=self._key(path))
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return False
            raise
        sha256, etag = hashes(file)
        if sha256 != self.build.files[path]:
            raise ModelError(f"{file} was changed while it was being published: export the build again")
        if found["ContentLength"] != file.stat().st_size:
            return False
        # The ETag is another hash where another program sent the file or where the bucket encrypts with keys of KMS.
        return found["ETag"].strip('"') == etag or self._digest(path) == sha256

    def _digest(self, path: str) -> str:
        body = self.client.get_object(Bucket=self.location.bucket, Key=self._key(path))["Body"]
        function = hashlib.sha256()
        for block in body.iter_chunks(CHUNK):
            function.update(block)
        return function.hexdigest()


def hashes(file: Path) -> tuple[str, str]:
    """The sha256 of a file, and what S3 calls it when sent as `Upload` sends it: the MD5 of its content, or, sent
    in parts, the MD5 of the parts' MD5s and how many they are (Amazon S3 User Guide, "Checking object integrity").
    """
    sha256, parts = hashlib.sha256(), []
    with file.open("rb") as opened:
        while part := opened.read(PART):
            sha256.update(part)
            parts.append(hashlib.md5(part, usedforsecurity=False))
    if file.stat().st_size < PART:
        return sha256.hexdigest(), (parts or [hashlib.md5(usedforsecurity=False)])[0].hexdigest()
    whole = hashlib.md5(b"".join(part.digest() for part in parts), usedforsecurity=False)
    return sha256.hexdigest(), f"{whole.hexdigest()}-{len(parts)}"
