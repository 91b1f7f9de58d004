"""S3's notifications as each sender writes them.

AWS: docs.aws.amazon.com, "Event message structure"; Ceph: docs.ceph.com, "S3 Bucket Notifications Compatibility".
"""

from typing import Annotated, Any
from urllib.parse import unquote_plus

from pydantic import BaseModel, Field, ValidationError

from visionserve.errors import InvalidInputError

TEST_EVENT = "s3:TestEvent"


class Bucket(BaseModel):
    name: Annotated[str, Field(min_length=1)]


class Object(BaseModel):
    """`key`: as the sender encodes it; `size`: bytes, where the sender tells it."""

    key: Annotated[str, Field(min_length=1)]
    size: Annotated[int, Field(ge=0)] | None = None


class Entity(BaseModel):
    bucket: Bucket
    object: Object


class Record(BaseModel):
    """One event of one object."""

    event_name: Annotated[str, Field(alias="eventName")]
    event_source: Annotated[str, Field(alias="eventSource")] = ""
    s3: Entity

    @property
    def bucket(self) -> str:
        return self.s3.bucket.name

    @property
    def key(self) -> str:
        """The object's own. Ceph sends it as it is; AWS, and MinIO after it, as a form field: + is a space."""
        sent = self.s3.object.key
        return sent if self.event_source.startswith("ceph:") else unquote_plus(sent)

    @property
    def size(self) -> int | None:
        return self.s3.object.size


class Notification(BaseModel):
    records: Annotated[list[Record], Field(alias="Records")]


def read_records(data: Any) -> list[Record] | None:
    """`data`: a notification, or one record of it as Knative's Ceph source sends it; None for AWS's test event.

    Raises InvalidInputError naming the first field that is wrong.
    """
    if isinstance(data, dict) and data.get("Event") == TEST_EVENT:
        return None
    try:
        if isinstance(data, dict) and "s3" in data and "Records" not in data:
            return [Record.model_validate(data)]
        return Notification.model_validate(data).records
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the event's data"
        raise InvalidInputError(
            f'This is no notification of S3: {where}: {problem["msg"]}; send {{"Records": [...]}} as S3 does.'
        ) from None
