from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_serializer, model_validator
from typing_extensions import Self

from visionserve.cortex.spec.types import (
    ApiName,
    Cpu,
    Duration,
    Endpoint,
    Memory,
    ModelLocation,
    ModelName,
    String,
    Surge,
    Text,
    choice,
    number,
    whole,
)

DEFAULT_PORT = 8888


class Section(BaseModel):
    """A mapping of a spec. A field that is written without a value counts as left out."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), ser_json_inf_nan="constants", hide_input_in_errors=True
    )
    nullable: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, fields: object) -> object:
        if not isinstance(fields, dict):
            return fields
        droppable = set(cls.model_fields) - cls.nullable
        return {key: value for key, value in fields.items() if value is not None or key not in droppable}


class Model(Section):
    name: ModelName = Field(description="the name that the predictor asks for")
    model_path: ModelLocation = Field(description="a folder, or s3://bucket/prefix")
    signature_key: Text | None = None


class Models(Section):
    dir: ModelLocation | None = None
    paths: tuple[Model, ...] = ()
    signature_key: Text | None = None
    cache_size: Annotated[int, whole(1)] | None = None
    disk_cache_size: Annotated[int, whole(1)] | None = None


class ServerSideBatching(Section):
    max_batch_size: Annotated[int, whole(2, 1024)] = Field(description="a whole number from 2 to 1024")
    batch_interval: Duration = Field(description="the longest wait for more requests, such as 20ms")


class Predictor(Section):
    type: Annotated[Literal["python", "tensorflow"], choice("python", "tensorflow")] = Field(
        description="python or tensorflow"
    )
    path: Text = Field(description="the Python file of the predictor, relative to the spec")
    model_path: ModelLocation | None = None
    signature_key: Text | None = None
    models: Models | None = None
    server_side_batching: ServerSideBatching | None = None
    processes_per_replica: Annotated[int, whole(1, 100)] = 1
    threads_per_process: Annotated[int, whole(1)] = 1
    config: dict[str, Any] = Field(default_factory=dict)
    python_path: Text | None = None
    image: Text | None = None
    tensorflow_serving_image: Text | None = None
    env: dict[str, String] = Field(default_factory=dict)


class Networking(Section):
    endpoint: Endpoint = ""  # an ApiSpec fills in /name
    local_port: Annotated[int, whole(1, 65535)] = DEFAULT_PORT
    api_gateway: Annotated[Literal["public", "none"], choice("public", "none")] = "public"


class Compute(Section):
    """Requests per replica: `cpu` in cores (None: no request), `mem` in bytes, `gpu` and `inf` in devices."""

    nullable = frozenset({"cpu"})

    cpu: Cpu | None = 0.2
    gpu: Annotated[int, whole(0)] = 0
    inf: Annotated[int, whole(0)] = 0
    mem: Memory | None = None


class Monitoring(Section):
    model_type: Annotated[Literal["classification", "regression"], choice("classification", "regression")] = Field(
        description="classification or regression"
    )
    key: Text | None = None


class Autoscaling(Section):
    """Durations in seconds."""

    min_replicas: Annotated[int, whole(1)] = 1
    max_replicas: Annotated[int, whole(1)] = 100
    init_replicas: Annotated[int, whole(1)] = 0  # an Autoscaling fills in min_replicas
    # An ApiSpec fills in processes_per_replica * threads_per_process.
    target_replica_concurrency: Annotated[float, number("above 0", lambda value: value > 0)] = 0
    max_replica_concurrency: Annotated[int, whole(1, 30000)] = 1024
    window: Duration = 60.0
    downscale_stabilization_period: Duration = 300.0
    upscale_stabilization_period: Duration = 60.0
    max_downscale_factor: Annotated[float, number("from 0 to below 1", lambda value: 0 <= value < 1)] = 0.75
    max_upscale_factor: Annotated[float, number("above 1", lambda value: value > 1)] = 1.5
    downscale_tolerance: Annotated[float, number("from 0 to below 1", lambda value: 0 <= value < 1)] = 0.05
    upscale_tolerance: Annotated[float, number("of at least 0", lambda value: value >= 0)] = 0.05

    @model_validator(mode="after")
    def _derive_defaults(self) -> Self:
        if "init_replicas" not in self.model_fields_set:
            object.__setattr__(self, "init_replicas", self.min_replicas)
        return self


class UpdateStrategy(Section):
    max_surge: Surge = "25%"
    max_unavailable: Surge = "25%"


def _current_kind(value: object) -> object:
    return "RealtimeAPI" if value == "SyncAPI" else value


class ApiFields(Section):
    """What a user may write about one API: Cortex 0.20's RealtimeAPI, with its defaults."""

    name: ApiName = Field(description="what the API is called, such as image-classifier")
    # Specs from before Cortex 0.19 have no kind, and 0.19 itself said SyncAPI.
    kind: Annotated[Literal["RealtimeAPI"], choice("RealtimeAPI"), BeforeValidator(_current_kind)] = "RealtimeAPI"
    predictor: Predictor = Field(description="a mapping with type and path")
    networking: Networking = Networking()
    compute: Compute = Compute()
    monitoring: Monitoring | None = None
    autoscaling: Autoscaling = Autoscaling()
    update_strategy: UpdateStrategy = UpdateStrategy()

    @model_validator(mode="after")
    def _derive_defaults(self) -> Self:
        if not self.networking.endpoint:
            networking = self.networking.model_copy(update={"endpoint": f"/{self.name}"})
            object.__setattr__(self, "networking", networking)
        if not self.autoscaling.target_replica_concurrency:
            target = float(self.predictor.processes_per_replica * self.predictor.threads_per_process)
            autoscaling = self.autoscaling.model_copy(update={"target_replica_concurrency": target})
            object.__setattr__(self, "autoscaling", autoscaling)
        return self


class ApiSpec(ApiFields):
    """One validated API. It goes through JSON and back unchanged.

    project: the folder of the spec file, to which its paths are relative; file: the spec file.
    explicit: the dotted names of the fields that the user wrote, older names replaced by today's.
    """

    project: Path
    file: Path
    explicit: frozenset[str] = frozenset()

    @field_serializer("explicit", when_used="json")
    def _sorted(self, explicit: frozenset[str]) -> list[str]:
        return sorted(explicit)


def section_of(path: tuple[str, ...]) -> type[Section] | None:
    """The section class at a field path of an API, () being the API itself; None where there is none."""
    section: type[Section] = ApiFields
    for name in path:
        if name not in section.model_fields:
            return None
        annotation = section.model_fields[name].annotation
        kinds = [annotation, *getattr(annotation, "__args__", ())]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]
        if not inner:
            return None
        section = inner[0]
    return section
