from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from visionserve.cortex import payload
from visionserve.cortex.local_models import local_models
from visionserve.cortex.predictor import Predictor, enter_project
from visionserve.cortex.responses import response_of
from visionserve.cortex.spec.api import ApiSpec
from visionserve.errors import UsageError
from visionserve.inference.client import DirectClient
from visionserve.inference.repository import Repository


def dry_run(spec: ApiSpec, data: bytes, content_type: str, engine: str) -> Response:
    """What a POST of `data` would be answered, from the spec's predictor and models loaded in this process."""
    models, _ = local_models(spec, engine, on_cpu=True)
    client = None
    if models:
        repository = Repository(models)
        repository.load()
        client = DirectClient(repository)
    enter_project(spec)
    predictor = Predictor(spec, client)
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [(b"content-type", content_type.encode())],
    }
    request = Request(scope)
    try:
        parsed = payload.parse(request, data)
    except HTTPException as error:
        raise UsageError(error.detail) from error
    return response_of(predictor.predict(payload=parsed, query_params=request.query_params, headers=request.headers))
