"""The spans of an inference: in the process that asks for it, and in the one that runs it.

Names and attributes are OpenTelemetry's for gRPC (https://opentelemetry.io/docs/specs/semconv/rpc/grpc).
"""

import functools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from visionserve import tracing

TRACEPARENT = "traceparent"
METHOD = "tensorflow.serving.PredictionService/Predict"
# The time.monotonic at which the predictor began; None when it has asked a model already.
predict_began: ContextVar[float | None] = ContextVar("predict_began", default=None)


@contextmanager
def asking(model: str) -> Iterator[tuple[tuple[str, str], ...]]:
    """Around a call of Predict; gives the gRPC metadata that carries the trace to the server, none without a trace."""
    if tracing.tracer() is None:
        yield ()
        return
    end_decode()
    with tracing.span(METHOD, "CLIENT", **_attributes(model)):
        yield ((TRACEPARENT, tracing.traceparent()),)


def traced_predict(method: Callable[[Any, Any, Any], Awaitable[Any]]) -> Callable[[Any, Any, Any], Awaitable[Any]]:
    """The servicer's Predict, as a span of its caller's trace where this process is traced."""

    @functools.wraps(method)
    async def answer(self: Any, request: Any, context: Any) -> Any:
        if tracing.tracer() is None:
            return await method(self, request, context)
        metadata = {key: value for key, value in context.invocation_metadata() or () if key == TRACEPARENT}
        with tracing.span(METHOD, "SERVER", tracing.parent_in(metadata), **_attributes(request.model_spec.name)):
            return await method(self, request, context)

    return answer


def add_stages(arrived: float, began: float | None, ended: float | None, rows: int) -> None:
    """The spans `queue` and `engine` of a request that was in a batch of `rows`, as far as it came.

    Moments are of time.monotonic; None for those that were not reached.
    """
    if tracing.tracer() is None:
        return
    now = time.monotonic()
    tracing.add_span("queue", arrived, began or now)
    if began is not None:
        tracing.add_span("engine", began, ended or now, **{"visionserve.batch.size": rows})


def end_decode() -> None:
    """The predictor asks a model: what it did before, if it is the first time, is the span `decode`."""
    began = predict_began.get()
    if began is not None:
        tracing.add_span("decode", began, time.monotonic())
        predict_began.set(None)


def _attributes(model: str) -> dict[str, str]:
    service, _, method = METHOD.rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method, "visionserve.model": model}
