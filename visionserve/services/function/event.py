from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, from_structured_event, to_binary_event
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.v1.event import CloudEvent
from starlette.exceptions import HTTPException

from visionserve.errors import InvalidInputError

# The second is a misspelling that clients of this function are known to send.
STRUCTURED = ("application/cloudevents+json", "application/application/cloudevents+json")
BARE = "application/json"
ANSWER_TYPE = "visionserve.image.classified"
ANSWER_SOURCE = "/visionserve/function"


@dataclass(frozen=True)
class Event:
    """`data`: what JSON holds; `id`: of the CloudEvent, None for a notification that came bare."""

    data: Any
    id: str | None

    def answer(self, body: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
        """Headers and body of an answer in the form in which the event came.

        A Knative broker takes an answer with a body that is no CloudEvent for a failure and delivers the event again.
        The answer's id follows from the event's, so that the answers to an event delivered twice are seen to be one.
        """
        if self.id is None:
            return {"content-type": BARE}, orjson.dumps(body)
        attributes = {"id": f"{self.id}.classified", "type": ANSWER_TYPE, "source": ANSWER_SOURCE}
        message = to_binary_event(CloudEvent({**attributes, "datacontenttype": BARE}, dict(body)))
        return message.headers, message.body


def read_event(headers: Mapping[str, str], body: bytes) -> Event:
    """A CloudEvent, structured or binary (HTTP Protocol Binding for CloudEvents 1.0), or bare JSON.

    `headers`: by lower-case names. Raises InvalidInputError, HTTPException 415 for a content type of another kind.
    """
    message = HTTPMessage(dict(headers), body)
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media_type in STRUCTURED:
            return _of(from_structured_event(message))
        if any(name.startswith("ce-") for name in headers) and not media_type.startswith("application/cloudevents"):
            return _of(from_binary_event(message))
        if media_type == BARE:
            return Event(orjson.loads(body), None)
    # What is wrong inside a message reaches the SDK's own parsers unchecked, and they raise as they like.
    except (BaseCloudEventException, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise InvalidInputError(f"The body is no CloudEvent and no JSON of S3: {_sentence(error)}.") from error
    raise HTTPException(
        415,
        f"The content type {media_type!r} is not read here: send {STRUCTURED[0]} or {BARE}, one event at a time.",
    )


def _of(event: BaseCloudEvent) -> Event:
    data = event.get_data()
    # JSON may hold characters that no answer could repeat: the SDK reads them, orjson does not write them.
    event.get_id().encode()
    return Event(orjson.loads(data if isinstance(data, str | bytes) else orjson.dumps(data)), event.get_id())


def _sentence(error: Exception) -> str:
    sentence = str(error).encode(errors="backslashreplace").decode()
    return " ".join(sentence.split()).rstrip(".") or type(error).__name__
