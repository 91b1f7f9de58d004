import hashlib
from pathlib import Path, PurePosixPath

import platformdirs

from visionserve.errors import MissingError, ModelError
from visionserve.files import folder_written_atomically


def fetch_model(url: str, cache: Path | None = None) -> Path:
    """A copy of the folder at s3://bucket/prefix in the user's cache, fetched again only when an object has changed.

    Credentials, region and endpoint are boto3's own (environment, ~/.aws, instance role).
    Raises ModelError when the folder is empty or cannot be read, MissingError without boto3.
    """
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise MissingError(f"{url} needs boto3: run pip install 'visionserve[s3]'.") from None
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    prefix = prefix.rstrip("/") + "/"
    root = cache or Path(platformdirs.user_cache_dir("visionserve")) / "models"
    try:
        client = boto3.client("s3")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        objects = [item for page in pages for item in page.get("Contents", []) if not item["Key"].endswith("/")]
        if not objects:
            raise ModelError(f"There is nothing under {url}: correct model_path, or upload the model first.")
        state = "\n".join(sorted(f"{item['Key']} {item['ETag']}" for item in objects))
        target = root / hashlib.sha256(f"{url}\n{state}".encode()).hexdigest()[:32]
        if target.is_dir():
            return target
        with folder_written_atomically(target) as folder:
            for item in objects:
                relative = PurePosixPath(item["Key"][len(prefix) :])
                if relative.is_absolute() or ".." in relative.parts:
                    raise ModelError(f"The object {item['Key']!r} under {url} has a path that leaves its folder.")
                file = folder / relative
                file.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(bucket, item["Key"], str(file))
    except (BotoCoreError, ClientError) as error:
        raise ModelError(f"{url} cannot be read: {error}.") from error
    return target
