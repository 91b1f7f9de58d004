from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from visionserve.errors import UsageError

PREFIX = "REST_"
ENV_FILE = ".env"


class Settings(BaseSettings):
    """`tensorflow_serving`: as in Address, "" for a model server of our own; `config`: the file of read_routes;
    `timeout`: seconds for an answer of the model; `max_upload_bytes`: of a request's body; `max_pixels`: of an image.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=ENV_FILE, env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore"
    )

    host: str = "127.0.0.1"
    port: int = Field(5000, ge=1, le=65535)
    config: Path | None = None
    tensorflow_serving: str = ""
    engine: Literal["auto", "tensorflow", "openvino", "null"] = "auto"
    timeout: float = Field(60.0, gt=0)
    max_upload_bytes: int = Field(32 << 20, ge=1)
    max_pixels: int = Field(50_000_000, ge=1)
    max_in_flight: int = Field(256, ge=1)


def read_settings(options: Mapping[str, Any]) -> Settings:
    """The command's options, then the environment, then .env in the current folder, then the defaults.

    Raises UsageError.
    """
    try:
        settings = Settings(**options)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise UsageError(f"{name}={first['input']}: {first['msg']}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{ENV_FILE} is not text in UTF-8: {error}.") from error
    if settings.tensorflow_serving and "engine" in settings.model_fields_set:
        raise UsageError(
            f"--engine (or REST_ENGINE) {settings.engine} is for a model server that is started here: leave it out "
            f"beside --tensorflow-serving {settings.tensorflow_serving}."
        )
    return settings
