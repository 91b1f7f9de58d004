import threading
from contextlib import closing
from typing import Any

from visionserve.services.function.settings import Settings

CONNECT_SECONDS = 5
READ_SECONDS = 20
ATTEMPTS = 3
CHUNK = 1 << 20
# Nothing that is done to the settings, the server or the network makes one of these requests succeed.
FINAL = {
    "NoSuchKey": "is not there any more",
    "NoSuchVersion": "is not there any more",
    "InvalidObjectState": "is in an archive: restore it first",
    "InvalidBucketName": "has a name that no bucket can have",
    "InvalidObjectName": "has a key that no object can have",
    "InvalidURI": "has a key that no object can have",
    "KeyTooLongError": "has a key that no object can have",
}


class ObjectError(Exception):
    """The whole sentence about an object that could not be read. `retry`: whether it may be read later."""

    def __init__(self, message: str, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


class Storage:
    """Objects of an S3 server. Nothing is connected, nor boto3 imported, before the first `get`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = None
        self._opening = threading.Lock()

    def get(self, bucket: str, key: str) -> bytes:
        """An object's content; for any thread. Raises ObjectError."""
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

        name = f"s3://{bucket}/{key}"
        try:
            answer = self._open().get_object(Bucket=bucket, Key=key)
            return self._body(answer, name)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in FINAL:
                raise ObjectError(f"{name} {FINAL[code]}.", retry=False) from error
            raise ObjectError(f"{name} cannot be read: {self._refusal(code, bucket)}.", retry=True) from error
        except ParamValidationError as error:
            raise ObjectError(f"{name!r} is no name of an object.", retry=False) from error
        # boto3 finds some settings wrong with a ValueError: S3_ENDPOINT_URL is no URL.
        except (BotoCoreError, ValueError) as error:
            raise ObjectError(f"{name} cannot be read: {self._failure(error)}.", retry=True) from error

    def check_size(self, name: str, size: int | None) -> None:
        """`size`: bytes, as far as they are known. Raises ObjectError for too many."""
        limit = self._settings.max_image_bytes
        if size is not None and size > limit:
            raise ObjectError(f"{name} is larger than MAX_IMAGE_BYTES={limit}: it is not read.", retry=False)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _open(self) -> Any:
        with self._opening:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        import boto3
        from botocore.config import Config

        access, secret = self._settings.s3_access_key, self._settings.s3_secret_key
        return boto3.Session().client(
            "s3",
            endpoint_url=self._settings.s3_endpoint_url,
            region_name=self._settings.s3_aws_region,
            aws_access_key_id=access.get_secret_value() if access else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            ),
        )

    def _body(self, answer: dict[str, Any], name: str) -> bytes:
        body = bytearray()
        with closing(answer["Body"]) as stream:
            self.check_size(name, answer.get("ContentLength"))
            for chunk in stream.iter_chunks(CHUNK):
                body += chunk
                self.check_size(name, len(body))
        return bytes(body)

    def _refusal(self, code: str, bucket: str) -> str:
        if code == "NoSuchBucket":
            return f"there is no bucket {bucket} at {self._where}: see S3_ENDPOINT_URL"
        if code in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"):
            return f"{self._where} refuses access ({code}): see S3_ACCESS_KEY and S3_SECRET_KEY"
        return f"{self._where} answered {code}"

    def _failure(self, error: Exception) -> str:
        from botocore import exceptions

        if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            return "there are no credentials for it: set S3_ACCESS_KEY and S3_SECRET_KEY"
        if isinstance(error, exceptions.SSLError):
            return f"the certificate of {self._where} is not trusted: name its authority's file in AWS_CA_BUNDLE"
        if isinstance(error, exceptions.HTTPClientError) and not isinstance(error, exceptions.ConnectionError):
            # Its text may quote a header, and headers carry credentials.
            return f"the request to {self._where} failed ({type(error).__name__})"
        return " ".join(str(error).split()).rstrip(".")

    @property
    def _where(self) -> str:
        return self._settings.s3_endpoint_url or f"S3 in {self._settings.s3_aws_region}"
