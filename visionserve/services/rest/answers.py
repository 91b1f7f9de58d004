"""The bodies of all answers, as the OpenAPI document has them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Classification(_Answer):
    classes: int = Field(
        description="The likeliest class: 1 is the model's first one, 0 the background that only some models have.",
        ge=0,
        examples=[286],
    )


class Candidate(_Answer):
    number: int = Field(alias="class", ge=0, examples=[286])
    label: str | None = Field(description="Null where the model's labels are not known.", examples=["Egyptian_cat"])
    probability: float = Field(examples=[0.752])


class DetailedClassification(Classification):
    label: str | None = Field(examples=["Egyptian_cat"])
    probability: float = Field(examples=[0.752])
    top5: list[Candidate] = Field(description="The likeliest classes, most likely first.", max_length=5)


class Model(_Answer):
    route: str = Field(examples=["resnet"])
    path: str = Field(description="Where to post images.", examples=["/classify/resnet"])
    model: str = Field(description="Its name in the model server.", examples=["resnet50"])
    labels: int | None = Field(description="How many labels it was given; null for none.", examples=[1000])
    status: Literal["available", "unavailable"]


class Models(_Answer):
    models: list[Model]


class Health(_Answer):
    status: Literal["ready"]


class Error(_Answer):
    error: str = Field(description="One sentence.")


def errors(**sentences: str) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses`; `sentences`: status_400="when it comes"."""
    return {
        int(name.removeprefix("status_")): {"model": Error, "description": sentence}
        for name, sentence in sentences.items()
    }
