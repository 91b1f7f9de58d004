from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from visionserve.errors import VisionserveError
from visionserve.services.function.classifier import Classifier
from visionserve.services.function.event import read_event
from visionserve.services.function.images import DEFAULT, read_named_image
from visionserve.services.function.notification import read_records
from visionserve.services.function.objects import Objects, Outcome
from visionserve.services.function.settings import Settings

# A notification of S3 has about 1 kB, and intermediaries need not take events of more than 64 kB.
MAX_EVENT_BYTES = 1 << 20
OPENAPI = Path(__file__).with_name("openapi.json")


def application(settings: Settings, objects: Objects, classifier: Callable[[], Awaitable[Classifier]]) -> Starlette:
    """The ASGI application behind the middleware; `classifier` waits for the model and raises what its loading did."""

    class Root(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            name = request.query_params.get("imageName", DEFAULT)
            image = read_named_image(settings.data_path, name)
            long_name, _ = await (await classifier()).classify(image, f"The image {name!r}")
            return JSONResponse({"top_prediction": [[long_name]]})

        async def post(self, request: Request) -> Response:
            if not settings.s3_enabled:
                raise HTTPException(403, "Events are not taken here: set S3_ENABLED=true and where S3 is.")
            event = read_event(request.headers, await _body(request))
            records = read_records(event.data)
            if records is None:
                outcomes = [Outcome(message="This is S3's test event: there is nothing to classify.")]
            else:
                outcomes = await objects.outcomes(records, await classifier())
            answer: dict[str, object] = {"top_prediction": [outcome.top for outcome in outcomes]}
            if any(outcome.message for outcome in outcomes):
                answer["messages"] = [outcome.message for outcome in outcomes]
            retry = next((outcome.message for outcome in outcomes if outcome.retry), None)
            if retry:
                return JSONResponse({"error": retry, **answer}, 503)
            headers, body = event.answer(answer)
            return Response(body, headers=headers)

    return Starlette(
        routes=[Route("/", Root), Route("/openapi.json", lambda _: FileResponse(OPENAPI))],
        exception_handlers={
            HTTPException: _refused,
            VisionserveError: _failed,
            ClientDisconnect: lambda *_: Response(status_code=400),
            Exception: lambda *_: JSONResponse({"error": "The function failed: see its log."}, 500),
        },
    )


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_EVENT_BYTES:
            raise HTTPException(413, f"The event has more than {MAX_EVENT_BYTES} bytes: send a notification of S3.")
    return bytes(body)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = error.detail
    if error.status_code == 404:
        sentence = f"There is nothing at {request.url.path}: ask GET /, POST / or GET /openapi.json."
    elif error.status_code == 405:
        sentence = f"{request.method} is not possible at {request.url.path}: use GET, or POST at /."
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


def _failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, VisionserveError)
    return JSONResponse({"error": str(error)}, error.status)
