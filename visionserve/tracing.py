"""OpenTelemetry traces of this process, where its standard environment variables ask for them.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables. Without those, OpenTelemetry is not
imported, and every call here costs a comparison.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from visionserve.errors import install_command

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
# Seconds for the last spans of a process that ends, whether or not the collector takes them.
FAREWELL = 2.0

log = logging.getLogger("visionserve")


class _State:
    tracer: Any = None
    provider: Any = None


def start(service: str) -> None:
    """From now on spans are sent to the OTLP/HTTP endpoint that the environment names, if it does.

    `service`: the service.name where OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES give none. Without the libraries
    the log says what is missing, and nothing is traced.
    """
    if not _wanted():
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        command = install_command("tracing")
        log.warning("nothing is traced, though %s is set: run %s", _endpoint_variable(), command)
        return
    from visionserve import __version__

    resource = Resource.create({"process.pid": os.getpid()})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: service}))
    _State.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    _State.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _State.tracer = _State.provider.get_tracer("visionserve", __version__)


def stop() -> None:
    """Sends the last spans, for FAREWELL seconds at most."""
    if _State.provider is not None:
        sending = threading.Thread(target=_State.provider.shutdown, name="last spans", daemon=True)
        sending.start()
        sending.join(FAREWELL)


def tracer() -> Any:
    """The opentelemetry.trace.Tracer of this process; None where nothing is traced."""
    return _State.tracer


@contextmanager
def span(name: str, kind: str = "INTERNAL", parent: Any = None, **attributes: Any) -> Iterator[Any]:
    """A span around the block, current in it; only where something is traced.

    `kind`: a name of opentelemetry.trace.SpanKind; `parent`: a context, None for the current one. An exception marks
    the span as failed, by its type, unless its `status` says that the caller was wrong.
    """
    from opentelemetry.trace import SpanKind

    with _State.tracer.start_as_current_span(
        name, parent, SpanKind[kind], attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            if getattr(error, "status", 500) >= 500:
                fail(current, type(error).__name__)
            raise


def fail(failed: Any, error_type: str) -> None:
    """Marks a span as failed."""
    from opentelemetry.trace import StatusCode

    failed.set_attribute("error.type", error_type)
    failed.set_status(StatusCode.ERROR)


def add_span(name: str, began: float, ended: float, **attributes: Any) -> None:
    """A span that is over already, as a child of the current one; none where there is no current one.

    `began`, `ended`: moments of time.monotonic.
    """
    from opentelemetry.trace import get_current_span

    if not get_current_span().get_span_context().is_valid:
        return
    offset = _wall_minus_monotonic()
    over = _State.tracer.start_span(name, attributes=attributes, start_time=offset + int(began * 1e9))
    over.end(offset + int(ended * 1e9))


def _wall_minus_monotonic() -> int:
    """Nanoseconds; of three readings the one that was interrupted the least."""
    readings = []
    for _ in range(3):
        before, wall = time.monotonic_ns(), time.time_ns()
        readings.append((time.monotonic_ns() - before, wall - before))
    return min(readings)[1]


def parent_in(carrier: Mapping[str, str]) -> Any:
    """The context of a caller that sends W3C's `traceparent` (https://www.w3.org/TR/trace-context); an empty one where
    it sends none, or none that is valid."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(carrier, Context())


def traceparent() -> str:
    """The current span as W3C's header has it."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier["traceparent"]


def _wanted() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "none" and bool(_endpoint_variable())


def _endpoint_variable() -> str:
    return next((name for name in ENDPOINTS if os.environ.get(name)), "")
