from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from visionserve.errors import UsageError
from visionserve.vision.fetch import MAX_BYTES


class Settings(BaseSettings):
    """The function's environment variables, by their names in lower case; an empty one counts as not set.

    `s3_access_key`, `s3_secret_key`: without them boto3 looks for credentials where it always does; `s3_bucket_name`:
    the only bucket whose events count, empty for all; `s3_event_name`: one or several with commas between, `s3:` in
    front or not, * for any letters; `max_image_bytes`: of an object in S3.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    s3_enabled: bool = False
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None
    s3_endpoint_url: str | None = None
    s3_bucket_name: str = ""
    s3_aws_region: str = "us-east-1"
    s3_event_name: str = "ObjectCreated:*"
    model_path: Path = Path("models/resnet50")
    engine: Literal["auto", "tensorflow", "openvino", "null"] = "auto"
    data_path: Path = Path("deploy/knative/data")
    max_image_bytes: int = Field(default=MAX_BYTES, ge=1)

    def takes(self, event_name: str) -> bool:
        """Whether `event_name`, such as s3:ObjectCreated:Put, is one of `s3_event_name`."""
        patterns = (pattern.strip().removeprefix("s3:") for pattern in self.s3_event_name.split(","))
        return any(fnmatchcase(event_name.removeprefix("s3:"), pattern) for pattern in patterns)


def read_settings() -> Settings:
    """From the environment. Raises UsageError naming the variable; its value may be a secret and is not repeated."""
    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise UsageError(f"{str(problem['loc'][0]).upper()} is wrong: {problem['msg']}.") from None
