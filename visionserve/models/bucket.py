import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from visionserve.errors import MissingError, ModelError, UsageError, install_command

# Amazon's "safe characters" of object keys: they need no quoting, neither in a URL nor in YAML.
ADDRESS = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,254})/?([A-Za-z0-9/!_.*'()-]*)")
CONNECT_SECONDS = 10
BAD_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired")


@dataclass(frozen=True)
class Location:
    """s3://bucket/prefix; `prefix` has no slash at either end and may be empty."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> "Location":
        """Raises UsageError."""
        found = ADDRESS.fullmatch(url)
        if found is None:
            raise UsageError(
                f"{url!r} is not an address like s3://bucket/prefix, of letters, digits and the characters /!_.*'()-"
            )
        bucket, prefix = found[1], found[2].strip("/")
        if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
            raise UsageError(f"{url!r} has an empty part, a . or a .. in its prefix: leave it out")
        return cls(bucket, prefix)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def __truediv__(self, name: str) -> "Location":
        return Location.parse(f"{self}/{name}")

    def key(self, path: str) -> str:
        """Of an object under the prefix."""
        return f"{self.prefix}/{path}" if self.prefix else path


@contextmanager
def s3_client(url: str, action: str) -> Iterator[Any]:
    """boto3's client; credentials, region, endpoint and retries are boto3's own (environment, ~/.aws, instance role).

    What S3 refuses in the block becomes one sentence, `url cannot be <action>: ...`.
    Raises ModelError, and MissingError without boto3.
    """
    try:
        import boto3
        from boto3.exceptions import Boto3Error
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise MissingError(f"{url} needs boto3: run {install_command('s3')}.") from None
    # Servers of S3 older than boto3's newer checksums refuse them over HTTPS (Ceph 16: MissingContentLength). The
    # signature then covers a hash of what is sent, so that every server checks that it arrives as it was.
    config = Config(
        request_checksum_calculation="when_required",
        s3={"payload_signing_enabled": True},
        connect_timeout=CONNECT_SECONDS,
    )
    try:
        client = boto3.Session().client("s3", config=config)
    except (BotoCoreError, ValueError) as error:
        raise ModelError(f"{url} cannot be {action}: boto3's settings are wrong: {error}.") from error
    try:
        yield client
    except (BotoCoreError, Boto3Error, ClientError) as error:
        reason = _reason(error, urlsplit(url).netloc, client.meta.endpoint_url)
        raise ModelError(f"{url} cannot be {action}: {reason}.") from error


def _reason(error: BaseException, bucket: str, endpoint: str) -> str:
    from boto3.exceptions import Boto3Error
    from botocore import exceptions

    if isinstance(error, Boto3Error):
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, exceptions.ClientError):
        return _refusal(error.response, bucket)
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return "there are no credentials for it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if isinstance(error, exceptions.SSLError):
        return f"{endpoint} has a certificate that is not trusted here: name its authority's file in AWS_CA_BUNDLE"
    if isinstance(error, exceptions.ConnectionError | exceptions.ReadTimeoutError | exceptions.ConnectionClosedError):
        return f"{endpoint} does not answer"
    if isinstance(error, exceptions.HTTPClientError):
        # Its text may quote a header, and headers carry session tokens.
        return f"no request could be sent to {endpoint}: see that no setting or credential holds a line break"
    return str(error).rstrip(".")


def _refusal(response: dict[str, Any], bucket: str) -> str:
    code = response.get("Error", {}).get("Code", "")
    if code == "NoSuchBucket":
        return f"there is no bucket {bucket}: create it, or correct the address"
    if code in BAD_KEYS:
        return f"the credentials are not valid there ({code}): see AWS_ACCESS_KEY_ID, AWS_PROFILE or ~/.aws"
    if code in ("AccessDenied", "403"):
        return f"access is denied: these credentials need to list, read and write objects in the bucket {bucket}"
    message = response.get("Error", {}).get("Message")
    return f"the server answered {code}{f' ({message})' if message else ''}".rstrip(".")
