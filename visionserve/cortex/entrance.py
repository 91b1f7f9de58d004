"""What each request to an API passes on its way in and out: its id, its access line, the check of its key."""

from collections.abc import Callable, Sequence

from starlette.types import ASGIApp

from visionserve.cortex.access_log import AccessLog, InFlightTotal
from visionserve.cortex.api_key import RequireKey
from visionserve.cortex.log_format import LogFormat
from visionserve.request_id import RequestIds


def entrance(
    application: ASGIApp,
    api_keys: Sequence[str],
    refused: Callable[[], None],
    in_flight: InFlightTotal,
    write: Callable[[str], None] | None,
    form: LogFormat,
) -> ASGIApp:
    """`api_keys`: their digests, none for an open API; `refused`: called where a request has none of them; `write`:
    takes an access line, None for no access log."""
    if api_keys:
        application = RequireKey(application, api_keys, refused)
    if write is not None:
        application = AccessLog(application, write, in_flight, form)
    return RequestIds(application)
