from typing import Any

import orjson
from starlette.responses import Response

JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value, option=JSON_OPTIONS), status, headers, "application/json")


def error_response(sentence: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return json_response({"error": sentence}, status, headers)


def response_of(prediction: Any) -> Response:
    """A predictor's result as Cortex sends it. Raises TypeError for what is not JSON-serializable."""
    if isinstance(prediction, Response):
        return prediction
    if isinstance(prediction, bytes):
        return Response(prediction, media_type="application/octet-stream")
    if isinstance(prediction, str):
        return Response(prediction, media_type="text/plain")
    return json_response(prediction)
