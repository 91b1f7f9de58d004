import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import visionserve
from visionserve.services.rest.answers import Classification, DetailedClassification, Health, Models, errors
from visionserve.services.rest.classifier import Classifier
from visionserve.services.rest.responses import REFUSALS, RETRY_LATER, json_response
from visionserve.services.rest.upload import FIELD, FORM, read_image

DESCRIPTION = (
    'Posts an image to a model and answers its class. What is wrong is answered `{"error": one sentence}`: 404 for '
    "another path, 405 for another method of a path, and as told with each call."
)
BODY = {
    "required": True,
    "content": {
        FORM: {
            "schema": {
                "type": "object",
                "required": [FIELD],
                "properties": {FIELD: {"type": "string", "format": "binary", "description": "A JPEG or PNG file."}},
            }
        }
    },
}


def application(classifiers: Sequence[Classifier], max_upload_bytes: int, max_in_flight: int) -> FastAPI:
    """The REST classifier; each classifier at its own route."""
    by_route = {classifier.route.name: classifier for classifier in classifiers}
    threads = ThreadPoolExecutor(max_in_flight, thread_name_prefix="classify")
    in_flight = 0
    app = FastAPIOffline(
        redoc_url=None,
        title="visionserve rest",
        description=DESCRIPTION,
        version=visionserve.__version__,
        # Null turns off the badge that asks a validator elsewhere.
        swagger_ui_parameters={"validatorUrl": None},
        exception_handlers=REFUSALS,
    )

    @app.post(
        "/classify/{route}",
        summary="Classify an image",
        responses={
            200: {"model": Classification | DetailedClassification, "description": "The likeliest class."},
            **errors(
                status_400="The form has not exactly one file `image`, or it is a broken or too large image.",
                status_404="There is no such route.",
                status_413="The body is too large.",
                status_415="The body is not a form, or the file is not of an image format that is read here.",
                status_500="The model failed.",
                status_503="The model does not answer now, or too many requests are in flight: try again later.",
            ),
        },
        openapi_extra={"requestBody": BODY},
    )
    async def classify(
        request: Request,
        route: Annotated[str, Path(json_schema_extra={"enum": list(by_route)})],
        detail: Annotated[bool, Query(description="Also label, probability and the five likeliest classes.")] = False,
    ) -> Response:
        nonlocal in_flight
        if route not in by_route:
            raise HTTPException(404, f"There is no route {route!r}: ask one of {', '.join(by_route)}.")
        if in_flight >= max_in_flight:
            raise HTTPException(503, f"More than {max_in_flight} requests are in flight: try again later.", RETRY_LATER)
        in_flight += 1
        try:
            image = await read_image(request, max_upload_bytes)
            loop = asyncio.get_running_loop()
            return json_response(await loop.run_in_executor(threads, by_route[route].classify, image, detail))
        finally:
            in_flight -= 1

    @app.get("/classify", summary="List the models", responses={200: {"model": Models}})
    async def models() -> Response:
        rows = [
            {
                "route": name,
                "path": f"/classify/{name}",
                "model": classifier.route.model,
                "labels": classifier.route.labels and len(classifier.route.labels),
                "status": "available" if available else "unavailable",
            }
            for (name, classifier), available in zip(by_route.items(), await _available(classifiers), strict=True)
        ]
        return json_response({"models": rows})

    @app.get(
        "/healthz",
        summary="Whether every model can answer",
        responses={200: {"model": Health}, **errors(status_503="A model cannot answer now.")},
    )
    async def health() -> Response:
        states = zip(by_route, await _available(classifiers), strict=True)
        if missing := [name for name, available in states if not available]:
            raise HTTPException(503, f"Not available now: {', '.join(missing)}.", RETRY_LATER)
        return json_response({"status": "ready"})

    openapi = app.openapi

    def truthful_openapi() -> dict[str, Any]:
        """Without FastAPI's own 422, which is 400 here."""
        document = openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        return document

    app.openapi = truthful_openapi  # type: ignore[method-assign]
    return app


async def _available(classifiers: Sequence[Classifier]) -> list[bool]:
    return await asyncio.gather(*(asyncio.to_thread(classifier.available) for classifier in classifiers))
