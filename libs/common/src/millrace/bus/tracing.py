"""The consumer's span and the log context of one delivery, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from millrace.bus.subscription import DeadLetter, Handled

_TRACER = trace.get_tracer("millrace.bus")


def _parent(traceparent: str | None) -> tuple[Context | None, str | None]:
    """Return the context to be a child of, and the trace id in hex. The form is checked by the envelope already."""
    parts = (traceparent or "").split("-")
    if len(parts) != 4 or len(parts[1]) != 32:
        return None, None
    context = SpanContext(
        trace_id=int(parts[1], 16),
        span_id=int(parts[2], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(parts[3], 16)),
    )
    if not context.is_valid:
        return None, None
    return trace.set_span_in_context(NonRecordingSpan(context), Context()), parts[1]


@contextmanager
def consuming(item: Handled, *, durable: str, stream: str) -> Iterator[None]:
    """Run the body in a span that is a child of the event's `traceparent`, with its ids bound to every log line."""
    event_id, kind, project, correlation = _ids(item)
    parent, trace_id = _parent(item.traceparent)
    with _TRACER.start_as_current_span(
        f"process {durable}",
        context=parent,
        kind=SpanKind.CONSUMER,
        attributes={
            "messaging.system": "nats",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": stream,
            "messaging.consumer.group.name": durable,
            "messaging.message.id": event_id,
            "millrace.event.type": kind,
            "millrace.project": project,
        },
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        own = span.get_span_context()
        structlog.contextvars.bind_contextvars(
            trace_id=f"{own.trace_id:032x}" if own.is_valid else trace_id,
            event_id=event_id,
            event_type=kind,
            correlation_id=correlation,
            project=project,
            durable=durable,
        )
        try:
            yield
        except Exception as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            span.set_attribute("error.type", type(error).__name__)
            raise


def _ids(item: Handled) -> tuple[str, str, str, str]:
    if isinstance(item, DeadLetter):
        return item.id, item.event_type or "", item.project or "", item.correlation or ""
    return item.id, item.type, item.project, item.correlationid
