import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from visionserve.errors import UsageError

PREFIX = "DCF_"
DEFAULT_MODEL = Path("models/detector")


class Settings(BaseModel):
    """What the environment says, each as DCF_ and its name in capitals. `max_overlap`: intersection over union that
    two objects of one class may have; `labels`: a file, without one COCO's names; `max_pixels`: of a picture."""

    model: Path = DEFAULT_MODEL
    engine: Literal["auto", "openvino", "tensorflow"] = "auto"
    min_confidence: float = Field(0.3, ge=0, le=1)
    max_overlap: float = Field(0.45, ge=0, le=1)
    max_objects: int = Field(100, ge=1)
    class_names: bool = True
    labels: Path | None = None
    max_pixels: int = Field(50_000_000, ge=1)


def read_settings(environment: Mapping[str, str] = os.environ, **options: Any) -> Settings:
    """`options`: of a command, which win over the environment unless they are None.

    An empty variable counts as none. Raises UsageError naming the variable that is wrong.
    """
    given: dict[str, Any] = {}
    for name in Settings.model_fields:
        value = options.get(name)
        if value is None:
            value = environment.get(PREFIX + name.upper())
        if value not in (None, ""):
            given[name] = value
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        expected = first["msg"].removeprefix("Input ").replace("should be", "must be")
        raise UsageError(f"{PREFIX}{str(first['loc'][0]).upper()} is {first['input']!r}: it {expected}.") from error
