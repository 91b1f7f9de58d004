import hashlib
from pathlib import Path, PurePosixPath

import platformdirs

from visionserve.errors import ModelError
from visionserve.files import folder_written_atomically
from visionserve.models.bucket import s3_client
from visionserve.models.builds.manifest import NAME, read_manifest


def fetch_model(url: str, cache: Path | None = None) -> Path:
    """A copy of the folder at s3://bucket/prefix in the user's cache, fetched again only when an object has changed.

    Raises ModelError when the folder is empty, cannot be read, or is not what its model.json says, where it has one;
    MissingError without boto3.
    """
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    prefix = prefix.rstrip("/") + "/"
    root = cache or Path(platformdirs.user_cache_dir("visionserve")) / "models"
    with s3_client(url, "read") as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        objects = [item for page in pages for item in page.get("Contents", []) if not item["Key"].endswith("/")]
        if not objects:
            raise ModelError(f"There is nothing under {url}: correct model_path, or upload the model first.")
        state = "\n".join(sorted(f"{item['Key']} {item['ETag']}" for item in objects))
        target = root / hashlib.sha256(f"{url}\n{state}".encode()).hexdigest()[:32]
        if target.is_dir():
            return target
        try:
            with folder_written_atomically(target) as folder:
                for item in objects:
                    relative = PurePosixPath(item["Key"][len(prefix) :])
                    if relative.is_absolute() or ".." in relative.parts:
                        raise ModelError(f"The object {item['Key']!r} under {url} has a path that leaves its folder.")
                    file = folder / relative
                    file.parent.mkdir(parents=True, exist_ok=True)
                    client.download_file(bucket, item["Key"], str(file))
                _check(url, folder)
        except OSError as error:
            raise ModelError(f"{url} could not be stored in {root}: {error.strerror or error}.") from error
    return target


def _check(url: str, folder: Path) -> None:
    manifests = [folder / NAME, *sorted(folder.glob(f"[0-9]*/{NAME}"))]
    if not all(_is_whole(path.parent) for path in manifests if path.is_file()):
        raise ModelError(f"{url} is damaged, its files are not those of its {NAME}: run visionserve publish again.")


def _is_whole(folder: Path) -> bool:
    try:
        return read_manifest(folder).describes(folder)
    except ModelError:
        return False
