"""Traces: one story from the first request to the served model, carried by `traceparent` in every event."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()


def configure_traces(service: str, endpoint: str | None) -> None:
    """Install a tracer provider, and let calls between services carry the trace.

    Without an endpoint spans are made all the same, so that logs carry ids, and sent nowhere.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": f"millrace-{service}"}))
    if endpoint:
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=4_096))
    trace.set_tracer_provider(provider)
    HTTPXClientInstrumentor().instrument()


def current_traceparent() -> str | None:
    """Return the W3C `traceparent` of the current span, or None outside any."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def span(name: str, *, parent: str | None = None, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
    """Open a span, as a child of the `parent` traceparent if given, else of the current span."""
    context = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
    with trace.get_tracer("millrace").start_as_current_span(name, context=context, kind=kind) as opened:
        yield opened
